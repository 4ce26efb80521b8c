//! The gateway beside nginx and HAProxy, in one run on one machine: what each adds to a stream's latencies, how many small
//! requests a second it carries, and its memory at many open streams. `gateway/README.md` shows a run and what it is worth.
//!
//! ```text
//! this process: load ──► proxy under test (a process of its own) ──► stand-in (a process of its own)
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use slackwater_gateway::{Config, Gateway};
use slackwater_load::{Load, Options, Pace, Prompt, Report};
use slackwater_replica::{Profile, Server};

type Failed = Box<dyn Error + Send + Sync>;

/// Rounds of each measure; the proxies take turns within each.
const ROUNDS: usize = 3;
const STREAMS: usize = 40;
const OPEN_STREAMS: usize = 2000;
const MEASURED: Duration = Duration::from_secs(6);

fn main() -> Result<(), Failed> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["as-gateway", upstream] => runtime.block_on(as_gateway(upstream)),
        ["as-stand-in", speed] => runtime.block_on(as_stand_in(speed.parse()?)),
        ["small-requests", address] => {
            let address = address.parse()?;
            say(&format!("{:.0} a second", runtime.block_on(small_requests(address))));
            Ok(())
        }
        _ => runtime.block_on(compare()),
    }
}

async fn as_gateway(upstream: &str) -> Result<(), Failed> {
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        replicas: vec![format!("r0=http://{upstream}").parse()?],
        ..Config::default()
    };
    config.limits.connections = 10_000;
    let gateway = Gateway::start(config, |_, _| {}).await?;
    say(&gateway.address().to_string());
    gateway.ended().await?;
    Ok(())
}

async fn as_stand_in(speed_up: f64) -> Result<(), Failed> {
    let mut profile = Profile::find("h100-qwen3-14b")?;
    // So that all streams of the memory's measure run at once.
    profile.config.max_num_seqs = 4096;
    let mut options = slackwater_replica::Options::new("model", profile);
    options.speed_up = speed_up;
    let server = Server::start(options).await?;
    say(&server.address().to_string());
    server.ended().await?;
    Ok(())
}

#[expect(clippy::print_stdout)] // what this program is for
fn say(line: &str) {
    println!("{line}");
}

/// A process that is ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's master takes its workers along at SIGTERM, not at SIGKILL.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        std::thread::sleep(Duration::from_millis(200));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn ourselves(arguments: &[&str]) -> Result<(Self, SocketAddr), Failed> {
        let mut child =
            Command::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?;
        let printed = child.stdout.take().ok_or("no output")?;
        let process = Self(child);
        let mut line = String::new();
        BufReader::new(printed).read_line(&mut line)?;
        Ok((process, line.trim().parse()?))
    }

    /// Resident memory of the process and its children, in MiB.
    fn memory_mib(&self) -> Result<f64, Failed> {
        let own = self.0.id();
        let mut kib = 0.0;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
            let field = |name: &str| -> Option<f64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse().ok()
            };
            if pid == own || field("PPid:").is_some_and(|parent| (parent - f64::from(own)).abs() < 0.5) {
                kib += field("VmRSS:").unwrap_or(0.0);
            }
        }
        Ok(kib / 1024.0)
    }
}

/// nginx and HAProxy as they are set up for streams: no buffering, connections to the upstream kept.
fn nginx(folder: &Path, port: u16, upstream: SocketAddr) -> Result<Process, Failed> {
    let config = format!(
        "daemon off; worker_processes auto; pid {0}/nginx.pid; error_log {0}/nginx-error.log;\n\
         worker_rlimit_nofile 65536;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; keepalive_requests 1000000;\n\
         upstream u {{ server {upstream}; keepalive 256; keepalive_requests 1000000; keepalive_timeout 4s; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=8192; location / {{ proxy_pass http://u; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; proxy_read_timeout 600s; }} }} }}\n",
        folder.display()
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, config)?;
    Ok(Process(Command::new("nginx").arg("-c").arg(&path).arg("-p").arg(folder).spawn()?))
}

fn haproxy(folder: &Path, port: u16, upstream: SocketAddr) -> Result<Process, Failed> {
    let config = format!(
        "global\n  maxconn 5000\ndefaults\n  mode http\n  option http-no-delay\n  timeout connect 5s\n  timeout client 600s\n  \
         timeout server 600s\n  http-reuse always\nlisten l\n  bind 127.0.0.1:{port} backlog 8192\n  server s {upstream}\n"
    );
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, config)?;
    Ok(Process(Command::new("haproxy").arg("-db").arg("-f").arg(&path).spawn()?))
}

fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Who is compared: a name, a process (none: straight to the stand-in), an address.
type Contender = (&'static str, Option<Process>, SocketAddr);

fn contenders(folder: &Path, upstream: SocketAddr) -> Result<Vec<Contender>, Failed> {
    let (gateway, address) = Process::ourselves(&["as-gateway", &upstream.to_string()])?;
    let mut all = vec![("direct", None, upstream), ("gateway", Some(gateway), address)];
    type Start = fn(&Path, u16, SocketAddr) -> Result<Process, Failed>;
    for (name, start) in [("nginx", nginx as Start), ("haproxy", haproxy as Start)] {
        let port = free_port()?;
        match start(folder, port, upstream) {
            Ok(process) => all.push((name, Some(process), SocketAddr::from(([127, 0, 0, 1], port)))),
            Err(error) => say(&format!("{name} is left out: {error}")),
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(all)
}

async fn compare() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut table = String::from("| | direct | gateway | nginx | haproxy |\n|---|---|---|---|---|\n");
    let mut row = |name: &str, values: &[String]| {
        let _ = writeln!(table, "| {name} | {} |", values.join(" | "));
    };
    {
        let (_stand_in, upstream) = Process::ourselves(&["as-stand-in", "1"])?;
        let all = contenders(folder.path(), upstream)?;
        let mut reports: Vec<Vec<Report>> = all.iter().map(|_| Vec::new()).collect();
        let mut rates: Vec<Vec<f64>> = all.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (index, (name, _, address)) in all.iter().enumerate() {
                let report = streams(*address).await;
                if !report.is_clean() {
                    say(&format!("{name}: {:?}", report.faults));
                }
                reports[index].push(report);
                rates[index].push(small_requests(*address).await);
            }
        }
        for (name, of) in [("TTFT", ttft as fn(&Report, f64) -> f64), ("gap between tokens", gap)] {
            for (quantile, share) in [("p50", 0.5), ("p99", 0.99)] {
                let values: Vec<f64> = reports
                    .iter()
                    .map(|rounds| median(rounds.iter().map(|report| of(report, share) * 1e3).collect()))
                    .collect();
                let shown = values.iter().map(|value| format!("{value:.2} ({:+.2})", value - values[0]));
                row(&format!("{name} {quantile}, ms (added)"), &shown.collect::<Vec<_>>());
            }
        }
        let values: Vec<f64> = rates.into_iter().map(median).collect();
        let shown = values.iter().map(|value| format!("{value:.0} ({:.2})", value / values[0]));
        row("small requests/s (of direct)", &shown.collect::<Vec<_>>());
        let lost: Vec<String> = reports
            .iter()
            .map(|rounds| rounds.iter().map(|report| report.sent - report.completed).sum::<u64>().to_string())
            .collect();
        row("streams not whole", &lost);
    }
    let (_stand_in, upstream) = Process::ourselves(&["as-stand-in", "0.25"])?;
    let all = contenders(folder.path(), upstream)?;
    let mut shown = vec!["–".to_owned()];
    for (_, process, address) in &all {
        let Some(process) = process else { continue };
        let before = process.memory_mib()?;
        let prompt = Prompt { prompt_tokens: (5, 10), output_tokens: (60, 80) };
        let load = Load::start(Options {
            prompt,
            within: Duration::from_secs(300),
            ..Options::new(*address, Pace::Concurrency(OPEN_STREAMS))
        });
        tokio::time::sleep(Duration::from_secs(8)).await;
        let during = process.memory_mib()?;
        shown.push(format!("{during:.0} ({before:.0} idle)"));
        load.stop().await;
    }
    row(&format!("MiB at {OPEN_STREAMS} open streams"), &shown);
    say(&table);
    Ok(())
}

fn ttft(report: &Report, share: f64) -> f64 {
    report.ttft.quantile_s(share)
}

fn gap(report: &Report, share: f64) -> f64 {
    report.itl.quantile_s(share)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

async fn streams(to: SocketAddr) -> Report {
    let prompt = Prompt { prompt_tokens: (20, 60), output_tokens: (30, 60) };
    let load = Load::start(Options { prompt, ..Options::new(to, Pace::Concurrency(STREAMS)) });
    tokio::time::sleep(MEASURED).await;
    load.stop().await
}

/// Small requests a second over 32 connections that are kept.
async fn small_requests(to: SocketAddr) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            loop {
                let Ok(stream) = tokio::net::TcpStream::connect(to).await else { return };
                let _ = stream.set_nodelay(true);
                let Ok((mut sender, driver)) = http1::handshake(TokioIo::new(stream)).await else { return };
                tokio::spawn(driver);
                while sender.ready().await.is_ok() {
                    let request =
                        Request::get("/health").header(header::HOST, "a").body(Empty::<Bytes>::new());
                    let Ok(request) = request else { return };
                    let Ok(response) = sender.send_request(request).await else { break };
                    if response.status().is_success() && response.into_body().collect().await.is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    let since = Instant::now();
    tokio::time::sleep(MEASURED / 2).await;
    let (count, seconds) = (done.load(Ordering::Relaxed), since.elapsed().as_secs_f64());
    tasks.shutdown().await;
    #[expect(clippy::cast_precision_loss)]
    let rate = count as f64 / seconds;
    rate
}
