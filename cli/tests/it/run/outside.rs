//! An outside prober: looks every 10 ms at who is in rotation and who answers, and says how much time the executor adds to a replica's
//! move beyond drain, stop, start, warm-up and soak. Nothing is asserted on time; the figure is in `exec/README.md`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slackwater_policy::{Plan, fold};

use super::fleet::{Fleet, Front, Spec, exit, records, text};

const EVERY: Duration = Duration::from_millis(10);
const REPLICAS: usize = 4;

/// What was seen of one replica at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    in_rotation: bool,
    in_flight: u64,
    listens: bool,
    healthy: bool,
}

/// Everything seen, and the requests sent through the gateway.
struct Probed {
    looks: Vec<(Instant, [Look; REPLICAS])>,
    requests: u64,
    failed: u64,
}

fn answer(stream: &mut (impl Read + Write), path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said)
}

fn look(socket: &std::path::Path, ports: &[u16]) -> Option<[Look; REPLICAS]> {
    let said = answer(&mut UnixStream::connect(socket).ok()?, "/replicas")?;
    let body: serde_json::Value = serde_json::from_str(&said[said.find("\r\n\r\n")? + 4..]).ok()?;
    let mut looks = [Look::default(); REPLICAS];
    for (index, look) in looks.iter_mut().enumerate() {
        let replica = &body["replicas"][index];
        look.in_rotation = replica["state"] == "ready";
        look.in_flight = replica["in_flight"].as_u64()?;
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", ports[index])) {
            look.listens = true;
            look.healthy =
                answer(&mut stream, "/health").is_some_and(|said| said.starts_with("HTTP/1.1 200"));
        }
    }
    Some(looks)
}

fn probe(fleet: &Fleet, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Probed> {
    let (socket, ports, front) = (fleet.path("gateway.sock"), fleet.ports.clone(), fleet.front);
    std::thread::spawn(move || {
        let mut probed = Probed { looks: Vec::new(), requests: 0, failed: 0 };
        let mut next = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            next = (next + EVERY).max(Instant::now());
            let at = Instant::now();
            probed.looks.extend(look(&socket, &ports).map(|looks| (at, looks)));
            // A new connection and a short request, as any client's.
            probed.requests += 1;
            let well = TcpStream::connect(("127.0.0.1", front))
                .ok()
                .and_then(|mut stream| answer(&mut stream, "/v1/models"))
                .is_some_and(|said| said.starts_with("HTTP/1.1 200"));
            probed.failed += u64::from(!well);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        probed
    })
}

/// Seconds of one replica's move as the prober saw it.
struct Outside {
    /// From out of rotation to back in it.
    out_s: f64,
    /// Of it, with requests in flight.
    drain_s: f64,
    /// From the last of them to nothing listening.
    stop_s: f64,
    /// From there to healthy.
    start_s: f64,
}

fn outside(probed: &Probed, replica: usize) -> Outside {
    let mut looks = probed.looks.iter().map(|(at, looks)| (*at, looks[replica]));
    let mut until = |what: &str, seen: fn(Look) -> bool| {
        looks.find(|(_, look)| seen(*look)).unwrap_or_else(|| panic!("replica {replica} was never {what}")).0
    };
    let out = until("out of rotation", |look| !look.in_rotation);
    let drained = until("drained", |look| look.in_flight == 0);
    let gone = until("gone", |look| !look.listens);
    let healthy = until("healthy", |look| look.healthy);
    let back = until("back", |look| look.in_rotation);
    let between = |from: Instant, to: Instant| (to - from).as_secs_f64();
    Outside {
        out_s: between(out, back),
        drain_s: between(out, drained),
        stop_s: between(drained, gone),
        start_s: between(gone, healthy),
    }
}

/// How long a stand-in takes to get healthy, and to be gone after a TERM, when nobody but the test does it; medians of seconds.
fn alone(fleet: &Fleet) -> (f64, f64) {
    let deployment = fleet.deployment();
    let port = super::fleet::free_port();
    let words = &deployment.versions.to.command;
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let filled = |word: &String| word.replace("{host}", "127.0.0.1").replace("{port}", &port.to_string());
        let began = Instant::now();
        let mut child = std::process::Command::new(&words[0])
            .args(words[1..].iter().map(filled))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let healthy = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            answer(&mut stream, "/health").filter(|said| said.starts_with("HTTP/1.1 200"))
        };
        while healthy().is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "a stand-in does not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        starts.push(began.elapsed().as_secs_f64());
        let told = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
        stops.push(told.elapsed().as_secs_f64());
    }
    let middle = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (middle(starts), middle(stops))
}

/// The plan as `slackwater plan` writes it looks every second or two; a test need not wait so long for a stand-in.
fn looking(plan: &mut Plan, every: slackwater_policy::Span) {
    plan.rollout.drain.probe_every = every;
    for limits in [
        &mut plan.rollout.steps.health,
        &mut plan.rollout.steps.gpu_free,
        &mut plan.rollout.steps.take_out,
        &mut plan.rollout.steps.admit,
    ] {
        limits.every = every;
    }
}

#[test]
fn an_outside_prober_says_what_the_executor_adds() {
    let mut spec = Spec::new(Front::Gateway, REPLICAS);
    spec.soak = slackwater_policy::Span::from_secs(1);
    spec.new = vec!["--startup".to_owned(), "1s".to_owned()];
    let mut fleet = Fleet::start(&spec);
    looking(&mut fleet.plan, slackwater_policy::Span::from_millis(100));
    fleet.write_plan();
    let (start_s, stop_s) = alone(&fleet);
    let load = fleet.load(8);
    let stop = Arc::new(AtomicBool::new(false));
    let prober = probe(&fleet, Arc::clone(&stop));
    let output = fleet.run(&[]);
    stop.store(true, Ordering::SeqCst);
    let probed = prober.join().unwrap();
    assert_eq!(exit(&output), 0, "{}", text(&output));
    let report = fleet.stop_load(load);
    assert!(report.is_clean(), "{:?}", report.faults);
    assert_eq!(probed.failed, 0, "of {} short requests", probed.requests);

    let told = fold(&fleet.plan, &records(&fleet.state()));
    let mut added: Vec<f64> = Vec::new();
    for moved in &told.moves {
        let seen = outside(&probed, moved.replica.index());
        // Warm-up is requests to the engine, which the prober can't see; the journal's own time of it stands for it.
        let warm_s = moved.warmed_at.unwrap().since(moved.healthy_at.unwrap()).as_secs_f64();
        let more = seen.out_s - seen.drain_s - seen.stop_s.min(stop_s) - start_s - warm_s;
        added.push(more);
        let Outside { out_s, drain_s, stop_s, start_s } = seen;
        eprintln!(
            "{}: out {out_s:.3} s, of it drain {drain_s:.3}, stop {stop_s:.3}, start {start_s:.3}, warm-up {warm_s:.3}: {more:.3} s more",
            moved.replica
        );
    }
    // Between two moves nobody is out, and nobody watched: what lies between soak's end and the next take-out is the executor's too.
    let gaps: Vec<f64> = told
        .moves
        .windows(2)
        .map(|two| two[1].taken_out_at.unwrap().since(two[0].ended_at.unwrap()).as_secs_f64())
        .collect();
    added.sort_by(f64::total_cmp);
    eprintln!(
        "outside prober, {} looks {:.1} ms apart, {} short requests, {} failed: a start alone {start_s:.3} s, a stop {stop_s:.3} s; the executor adds {:.3} s a \
         replica in the middle, {:.3} s at most; between moves {:.3} s at most",
        probed.looks.len(),
        (probed.looks[probed.looks.len() - 1].0 - probed.looks[0].0).as_secs_f64() * 1e3
            / probed.looks.len() as f64,
        probed.requests,
        probed.failed,
        added[added.len() / 2],
        added[added.len() - 1],
        gaps.iter().copied().fold(0.0, f64::max)
    );
    assert_eq!(added.len(), REPLICAS);
}
