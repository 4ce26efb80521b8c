//! A real Prometheus server scrapes two replicas whose requests are counted here; the history must match.
//!
//! ```text
//! second   0        9        12        16     20        30
//! a        12 req/s                                        the whole time
//! b        20 req/s |  down  | 20 req/s, counter from zero
//! scrapes  1 s                          none                answers 503 between 16 and 20: a recording outage
//! ```

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use slackwater_prometheus::{Request, fetch, live_rate};
use slackwater_scenarios::{FileTraffic, MetricsOf, ReadOptions, SharedTrace};

use crate::chunks::client;
use crate::server::Server;

const DOWN: (f64, f64) = (9.0, 12.0);
const OUTAGE: (f64, f64) = (16.0, 20.0);
const LASTS_S: f64 = 30.0;
const BOUNDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// When the clock began to count.
static BEGAN: OnceLock<Instant> = OnceLock::new();

fn now() -> f64 {
    BEGAN.get().map_or(0.0, |began| began.elapsed().as_secs_f64())
}

/// Requests that a replica has answered since its process began, at a time; `None` while it is down.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn answered(replica: &str, at_s: f64) -> Option<u64> {
    match replica {
        "a" => Some((1000.0 + 12.0 * at_s) as u64),
        _ if at_s < DOWN.0 => Some((500.0 + 20.0 * at_s) as u64),
        _ if at_s < DOWN.1 => None,
        _ => Some((20.0 * (at_s - DOWN.1)) as u64),
    }
}

/// Prompts of 30 tokens up to 929: every thirtieth request is as long as the first.
fn prompt(index: u64) -> u64 {
    30 + 31 * (index % 30)
}

fn page(replica: &str, count: u64) -> String {
    let prompts = |most: u64| (0..count).filter(|index| prompt(*index) <= most).count();
    let sum: u64 = (0..count).map(prompt).sum();
    let mut text =
        "# TYPE vllm:request_success_total counter\n# TYPE vllm:request_prompt_tokens histogram\n".to_owned();
    for (reason, part) in [("stop", count - count / 4), ("length", count / 4)] {
        let _ = writeln!(
            text,
            "vllm:request_success_total{{finished_reason=\"{reason}\",model_name=\"m\"}} {part}"
        );
    }
    for bound in BOUNDS {
        let _ = writeln!(
            text,
            "vllm:request_prompt_tokens_bucket{{le=\"{bound}.0\",model_name=\"m\"}} {}",
            prompts(bound)
        );
    }
    let _ = writeln!(text, "vllm:request_prompt_tokens_bucket{{le=\"+Inf\",model_name=\"m\"}} {count}");
    let _ = writeln!(
        text,
        "vllm:request_prompt_tokens_sum{{model_name=\"m\"}} {sum}\nvllm:request_prompt_tokens_count{{model_name=\"m\"}} {count}"
    );
    let _ = writeln!(text, "vllm:generation_tokens_total{{model_name=\"m\"}} {}", 7 * count);
    // Half a second each.
    #[expect(clippy::cast_precision_loss)]
    let seconds = count as f64 / 2.0;
    let _ = writeln!(
        text,
        "vllm:e2e_request_latency_seconds_sum{{replica=\"{replica}\"}} {seconds}\nvllm:e2e_request_latency_seconds_count{{replica=\"{replica}\"}} {count}"
    );
    text
}

/// Stopped when the test ends, however it does.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::print_stdout)] // a skipped test says so
fn installed() -> bool {
    let there = Command::new("prometheus")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        assert!(
            std::env::var_os("SLACKWATER_REQUIRE_REAL").is_none(),
            "prometheus is not installed (Debian: apt-get install prometheus), and SLACKWATER_REQUIRE_REAL is set"
        );
        println!("skipped: prometheus is not installed (Debian: apt-get install prometheus)");
    }
    there
}

fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock before the end of time")
}

#[test]
fn what_a_real_server_recorded_is_what_was_sent() {
    if !installed() {
        return;
    }
    let replicas = Server::start(|question| {
        let replica = question.path.trim_start_matches('/').to_owned();
        let at_s = now();
        if (OUTAGE.0..OUTAGE.1).contains(&at_s) {
            return Some((503, String::new()));
        }
        Some(answered(&replica, at_s).map_or((503, String::new()), |count| (200, page(&replica, count))))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let target = replicas.url.trim_start_matches("http://");
    let job = |replica: &str| {
        format!(
            "  - job_name: {replica}\n    metrics_path: /{replica}\n    static_configs:\n      - targets: ['{target}']\n        labels: {{fleet: chat, instance: {replica}}}\n"
        )
    };
    let configuration = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{}{}",
        job("a"),
        job("b")
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, configuration).expect("written");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"))
        .spawn()
        .expect("it is installed");
    let _stopped = Prometheus(child);
    // Its first scrapes are of replicas that stand still.
    let client = client(&format!("http://127.0.0.1:{port}"));
    let began = Instant::now();
    while live_rate(&client, "fleet=\"chat\"", MetricsOf::Auto, unix_s()).is_err() {
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_secs(60), "no scrape within a minute: {}", log());
        sleep(Duration::from_millis(200));
    }
    let zero_s = unix_s();
    BEGAN.set(Instant::now()).expect("once");
    sleep(Duration::from_secs_f64(LASTS_S));
    let until_s = unix_s();
    let live = live_rate(&client, "fleet=\"chat\"", MetricsOf::Auto, until_s).expect("a rate");
    assert_eq!(live.counter, "vllm:request_success_total");
    assert!(live.requests_per_s > 0.5, "{live:?}");

    let cache = folder.path().join("history.json");
    let request = Request {
        selector: "fleet=\"chat\"".into(),
        from_s: zero_s - 2,
        until_s,
        step_s: 1,
        engine: MetricsOf::Auto,
    };
    let fetched = fetch(&client, &request, &cache, &mut |_| {}).expect("a history");
    assert!(fetched.warnings.is_empty(), "{:?}", fetched.warnings);
    let rate = fetched.history.rate().expect("it agrees with itself").expect("points");

    // Each of b's two counters began again once.
    assert_eq!(rate.resets, 2, "{rate:?}");
    let [gap] = &rate.gaps[..] else { panic!("one gap: {:?}", rate.gaps) };
    #[expect(clippy::cast_precision_loss)]
    let (from_s, until_s) = ((gap.from_s - zero_s) as f64, (gap.until_s - zero_s) as f64);
    assert!((from_s - OUTAGE.0).abs() <= 2.5 && (until_s - OUTAGE.1).abs() <= 2.5, "{from_s} to {until_s}");
    assert!(gap.total_known, "both went on counting");

    // Sent: 12/s all the time, 20/s but for 3 s. Lost: b's last second before it went down; at the ends a scrape each.
    let sent = 12.0 * LASTS_S + 20.0 * (LASTS_S - (DOWN.1 - DOWN.0));
    let recorded: f64 = rate.steps.iter().sum();
    assert!(recorded <= sent + 1.0 && recorded >= sent - 20.0 - 2.0 * 32.0, "{recorded} of {sent}");
    // Away from what happens, second by second over five of them, within a scrape's jitter.
    let mean = |from: f64, until: f64| {
        #[expect(clippy::cast_precision_loss)]
        let inside = |place: &usize| {
            let at_s = (rate.from_s - zero_s) as f64 + *place as f64;
            (from..until).contains(&at_s)
        };
        let steps: Vec<f64> = rate
            .steps
            .iter()
            .enumerate()
            .filter(|(place, _)| inside(place))
            .map(|(_, count)| *count)
            .collect();
        #[expect(clippy::cast_precision_loss)]
        let count = steps.len() as f64;
        steps.iter().sum::<f64>() / count
    };
    for (from, until, expected) in
        [(2.0, 8.0, 32.0), (OUTAGE.0 + 1.0, OUTAGE.1 - 1.0, 32.0), (22.0, 28.0, 32.0)]
    {
        let mean = mean(from, until);
        assert!((mean - expected).abs() < 8.0, "{mean} from {from} to {until}, not {expected}: {rate:?}");
    }

    let trace = SharedTrace::load_all(FileTraffic::open(&cache, ReadOptions::default()).expect("ours"))
        .expect("good");
    #[expect(clippy::cast_precision_loss)]
    let (arrivals, input, output) =
        (trace.report.arrivals as f64, trace.report.input_tokens as f64, trace.report.output_tokens as f64);
    assert!((arrivals - recorded).abs() <= 1.0);
    let mean_prompt = (0..30).map(prompt).sum::<u64>() / 30;
    #[expect(clippy::cast_precision_loss)]
    let mean_prompt = mean_prompt as f64;
    assert!((input / arrivals / mean_prompt - 1.0).abs() < 0.08, "{} of {mean_prompt}", input / arrivals);
    // A mean alone, drawn as a lognormal: three standard deviations of 900 draws' mean are 13 % of it.
    assert!((output / arrivals / 7.0 - 1.0).abs() < 0.15, "{}", output / arrivals);
    let notes = trace.report.warnings().join("\n");
    assert!(notes.contains("0.500 s earlier") && notes.contains("nothing was recorded from"), "{notes}");
}
