//! The demo's stand-ins and what stands before them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use slackwater_exec::balancer::Nginx;
use slackwater_exec::deployment::{BalancerSpec, Deployment, Place};
use slackwater_exec::engine::Engine;
use slackwater_exec::supervisor::{Processes, Supervisor};
use slackwater_policy::{Plan, VersionRef};
use toml::{Table, Value};

use super::{Balancer, scenario};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running fleet.
pub(super) struct Fleet {
    pub(super) deployment: Deployment,
    processes: Processes,
    balancer: Option<Child>,
    front: SocketAddr,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(child) = &mut self.balancer {
            end(child);
        }
    }
}

impl Fleet {
    pub(super) async fn start(
        folder: &Path,
        replicas: u16,
        kind: Balancer,
        plan: &Plan,
    ) -> anyhow::Result<Fleet> {
        let program = std::env::current_exe().context("this program can't be found")?;
        let ports = free_ports(usize::from(replicas) + 2)?;
        let (fronts, ports) = ports.split_at(2);
        let front = SocketAddr::from(([127, 0, 0, 1], fronts[0]));
        let text = toml::to_string(&document(folder, &program, kind, plan, ports, fronts[1]))
            .context("the deployment can't be written as TOML")?;
        let path = folder.join("deployment.toml");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let deployment = Deployment::load(&path)?;
        let processes = Processes::new(deployment.clone());
        let mut fleet = Fleet { processes, balancer: None, front, deployment };
        let started = fleet.bring_up(folder, &program, kind, ports).await;
        if started.is_err() {
            fleet.stop_replicas().await;
        }
        started.map(|()| fleet)
    }

    async fn bring_up(
        &mut self,
        folder: &Path,
        program: &Path,
        kind: Balancer,
        ports: &[u16],
    ) -> anyhow::Result<()> {
        for place in &self.deployment.replicas {
            let started = self.processes.start(place, VersionRef::From).await;
            started.map_err(|trouble| anyhow::anyhow!("{}: {trouble}", place.name))?;
        }
        let log = folder.join("balancer.log");
        let log = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = command(folder, program, kind, ports, self)?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("the log can't be shared")?).stderr(log);
        let name = command.get_program().to_string_lossy().into_owned();
        let started =
            command.spawn().with_context(|| format!("`{name}` can't be started; is it installed?"))?;
        self.balancer = Some(started);
        answers(&self.deployment, self.front).await
    }

    pub(super) fn front(&self) -> SocketAddr {
        self.front
    }

    pub(super) fn state(&self) -> PathBuf {
        self.deployment.directory.clone()
    }

    pub(super) async fn stop(mut self) {
        self.stop_replicas().await;
        if let Some(child) = &mut self.balancer {
            end(child);
        }
        self.balancer = None;
    }

    async fn stop_replicas(&self) {
        for place in &self.deployment.replicas {
            // What does not stop has its process named in the folder's records.
            let _ = self.processes.stop(place, Duration::from_secs(2)).await;
        }
    }
}

/// Asks a child to end and waits; kills it where it takes too long.
fn end(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until requests through the balancer are answered; `/v1/models` is passed on to a replica that takes them.
async fn answers(deployment: &Deployment, front: SocketAddr) -> anyhow::Result<()> {
    let engine = Engine::new(Arc::new(deployment.clone()));
    let mut all: Vec<Place> = deployment.replicas.clone();
    let behind = Place { name: "the balancer".to_owned(), url: format!("http://{front}"), ..all[0].clone() };
    all.push(behind);
    let began = tokio::time::Instant::now();
    for place in &all {
        while let Err(trouble) = engine.healthy(place).await {
            anyhow::ensure!(
                began.elapsed() < READY_WITHIN,
                "{} is not ready after 30 s: {trouble}",
                place.name
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Ports that are free now; each is held until all are known, so that none is found twice.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("no free port")?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().context("a port has no number")?.port()))
        .collect()
}

/// The deployment file.
fn document(
    folder: &Path,
    program: &Path,
    kind: Balancer,
    plan: &Plan,
    ports: &[u16],
    confirm: u16,
) -> Table {
    let at = |name: &str| Value::from(folder.join(name).display().to_string());
    let table = |pairs: Vec<(&str, Value)>| -> Table {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let words = |words: &[&str]| Value::Array(words.iter().map(|word| Value::from(*word)).collect());
    let conf = folder.join("nginx.conf").display().to_string();
    let balancer = match kind {
        Balancer::Gateway => table(vec![
            ("kind", "gateway".into()),
            ("admin", format!("unix:{}", folder.join("gateway.sock").display()).into()),
        ]),
        Balancer::Haproxy => {
            table(vec![("kind", "haproxy".into()), ("socket", at("haproxy.sock")), ("backend", "llm".into())])
        }
        Balancer::Nginx => table(vec![
            ("kind", "nginx".into()),
            ("include", at("owned/upstream.conf")),
            ("upstream", "llm".into()),
            ("directives", words(&["least_conn;", "keepalive 16;"])),
            ("confirm_listen", format!("127.0.0.1:{confirm}").into()),
            ("test", words(&["nginx", "-c", &conf, "-t", "-q"])),
            ("reload", words(&["nginx", "-c", &conf, "-s", "reload"])),
        ]),
    };
    let version = |name: &str| {
        let (program, model) = (program.display().to_string(), format!("/models/{name}"));
        let command = words(&[
            &program,
            "replica",
            "--listen",
            "{host}:{port}",
            "--model",
            &model,
            "--engine",
            scenario::ENGINE,
            "--startup",
            scenario::START_UP,
        ]);
        table(vec![("command", command), ("identity", Value::Table(table(vec![("root", model.into())])))])
    };
    let versions =
        table(vec![("from", version(&plan.from.name).into()), ("to", version(&plan.to.name).into())]);
    let replicas = plan.replicas.iter().zip(ports).map(|(spec, port)| {
        let url = format!("http://127.0.0.1:{port}");
        Value::Table(table(vec![("name", spec.name.clone().into()), ("url", url.into())]))
    });
    table(vec![
        ("schema", slackwater_exec::deployment::SCHEMA.into()),
        ("directory", at("state")),
        ("balancer", balancer.into()),
        (
            "engine",
            table(vec![("kind", "vllm".into()), ("smoke", table(vec![("expect", "#0".into())]).into())])
                .into(),
        ),
        ("gpu", table(vec![("kind", "none".into())]).into()),
        ("versions", versions.into()),
        ("replicas", Value::Array(replicas.collect())),
    ])
}

/// What starts the balancer; writes the files it wants.
fn command(
    folder: &Path,
    program: &Path,
    kind: Balancer,
    ports: &[u16],
    fleet: &Fleet,
) -> anyhow::Result<Command> {
    let places = &fleet.deployment.replicas;
    match kind {
        Balancer::Gateway => {
            let mut command = Command::new(program);
            command.args(["gateway", "--listen", &fleet.front.to_string()]);
            command.arg("--admin").arg(folder.join("gateway.sock"));
            for (place, port) in places.iter().zip(ports) {
                command.arg("--replica").arg(format!("{}=http://127.0.0.1:{port}", place.name));
            }
            Ok(command)
        }
        Balancer::Nginx => {
            nginx(folder, fleet)?;
            let mut command = Command::new("nginx");
            command.arg("-c").arg(folder.join("nginx.conf")).args(["-g", "daemon off;"]);
            Ok(command)
        }
        Balancer::Haproxy => {
            let mut conf = format!(
                "global\n    stats socket {} mode 600 level admin\ndefaults\n    mode http\n    option http-no-delay\n    timeout connect 5s\n    \
                 timeout client 300s\n    timeout server 300s\nfrontend front\n    bind {}\n    default_backend llm\nbackend llm\n    \
                 balance leastconn\n    option httpchk GET /health\n",
                folder.join("haproxy.sock").display(),
                fleet.front
            );
            for (place, port) in places.iter().zip(ports) {
                conf.push_str(&format!("    server {} 127.0.0.1:{port} check inter 500ms\n", place.name));
            }
            let path = folder.join("haproxy.cfg");
            fs::write(&path, conf).with_context(|| format!("cannot write {}", path.display()))?;
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(path);
            Ok(command)
        }
    }
}

fn nginx(folder: &Path, fleet: &Fleet) -> anyhow::Result<()> {
    let BalancerSpec::Nginx(spec) = &fleet.deployment.balancer else { return Ok(()) };
    let write = |path: &Path, text: String| {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let first = Nginx::new(spec.clone(), fleet.deployment.replicas.clone(), fleet.state().join("kept"))
        .first_include();
    write(&spec.include, first)?;
    let at = |name: &str| folder.join(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {};\n", at(&format!("tmp_{kind}"))))
        .collect();
    // Started by root, its workers would else be a user who may not write there.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let conf = format!(
        "{user}worker_processes 2;\npid {};\nerror_log {};\nevents {{ worker_connections 1024; }}\nhttp {{\n    access_log off;\n{temporary}    \
         include {};\n    server {{\n        listen {};\n        location / {{\n            proxy_pass http://{};\n            \
         proxy_http_version 1.1;\n            proxy_set_header Connection '';\n            proxy_buffering off;\n            \
         proxy_read_timeout 300s;\n        }}\n    }}\n}}\n",
        at("nginx.pid"),
        at("nginx.log"),
        spec.include.display(),
        fleet.front,
        spec.upstream,
    );
    write(&folder.join("nginx.conf"), conf)
}
