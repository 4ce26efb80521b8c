//! A fleet of stand-ins behind a real balancer on the loopback, for one test. Everything it started ends with it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slackwater_exec::deployment::Deployment;
use slackwater_exec::supervisor::{Processes, Supervisor};
use slackwater_load::{Load, Options, Pace, Report};
use slackwater_policy::{AtDeadline, Limits, Plan, Span, VersionRef};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_slackwater");

/// Which balancer stands in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Gateway,
    Nginx,
    Haproxy,
}

/// Whether a program is there. Where it must be, its absence fails the test.
pub(crate) fn is_there(program: &str) -> bool {
    let found = Command::new("which").arg(program).output().is_ok_and(|output| output.status.success());
    if !found {
        let missing = format!("{program} is not installed: this test needs it (apt-get install {program})");
        assert!(std::env::var_os("SLACKWATER_REQUIRE_REAL").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
    }
    found
}

pub(crate) fn free_port() -> u16 {
    // Below the range from which the system takes ports for connections, and no port twice: one that was free a moment ago may
    // be anybody's by the time its server listens.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 19_000;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < COUNT, "no port is free");
        let port = FIRST + (std::process::id().wrapping_mul(97) + number) % COUNT;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) struct Fleet {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) plan: Plan,
    pub(crate) ports: Vec<u16>,
    pub(crate) front: u16,
    pub(crate) kind: Front,
    balancer: Option<Child>,
}

/// What a test changes of the usual fleet.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) front: Front,
    pub(crate) replicas: usize,
    /// Further arguments of the old and the new version.
    pub(crate) old: Vec<String>,
    pub(crate) new: Vec<String>,
    pub(crate) soak: Span,
    /// Lines at the head of the deployment file.
    pub(crate) deployment: String,
}

impl Spec {
    pub(crate) fn new(front: Front, replicas: usize) -> Spec {
        let none = Vec::new();
        Spec {
            front,
            replicas,
            old: none.clone(),
            new: none,
            soak: Span::from_millis(200),
            deployment: String::new(),
        }
    }

    /// The new version started with this fault.
    pub(crate) fn new_fault(mut self, fault: &str) -> Spec {
        self.new.extend(["--fault".to_owned(), fault.to_owned()]);
        self
    }

    pub(crate) fn old_fault(mut self, fault: &str) -> Spec {
        self.old.extend(["--fault".to_owned(), fault.to_owned()]);
        self
    }
}

/// Times of a plan for processes that start in a moment.
pub(crate) fn quick_plan(names: impl IntoIterator<Item = String>, soak: Span) -> Plan {
    let mut plan = Plan::rolling("v1", "v2", names);
    let rollout = &mut plan.rollout;
    rollout.soak = soak;
    rollout.warm_up_requests = 2;
    rollout.stop_grace = Span::from_secs(2);
    rollout.drain.timeout = Span::from_secs(60);
    rollout.drain.at_deadline = AtDeadline::Cut;
    rollout.drain.probe_every = Span::from_millis(50);
    rollout.drain.believe_after = Span::from_secs(3);
    let every = Span::from_millis(50);
    let steps = &mut rollout.steps;
    for limits in [
        &mut steps.health,
        &mut steps.gpu_free,
        &mut steps.in_flight,
        &mut steps.observe,
        &mut steps.admit,
        &mut steps.take_out,
    ] {
        limits.every = every;
    }
    steps.health.within = Some(Span::from_secs(6));
    steps.gpu_free.within = Some(Span::from_secs(6));
    steps.identity = Limits { every, ..steps.identity };
    steps.smoke = Limits { every, ..steps.smoke };
    plan
}

impl Fleet {
    /// Starts the replicas with the old version, and the balancer.
    pub(crate) fn start(spec: &Spec) -> Fleet {
        Fleet::start_with(spec, |text| text)
    }

    /// The same with a deployment file that was changed.
    pub(crate) fn start_with(spec: &Spec, change: impl Fn(String) -> String) -> Fleet {
        Fleet::start_by(spec, |text, _| change(text), Fleet::start_processes)
    }

    /// Starts the old version everywhere as plain processes.
    pub(crate) fn start_processes(&self, deployment: &Deployment) {
        let processes = Processes::new(deployment.clone());
        self.runtime.block_on(async {
            for place in &deployment.replicas {
                processes.start(place, VersionRef::From).await.unwrap();
            }
        });
    }

    /// The same with replicas that are started otherwise.
    pub(crate) fn start_by(
        spec: &Spec,
        change: impl Fn(String, &Fleet) -> String,
        start: impl FnOnce(&Fleet, &Deployment),
    ) -> Fleet {
        let folder = tempfile::Builder::new().prefix("sw").tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ports: Vec<u16> = (0..spec.replicas).map(|_| free_port()).collect();
        let names = (0..spec.replicas).map(|index| format!("replica-{index}"));
        let plan = quick_plan(names, spec.soak);
        let mut fleet =
            Fleet { folder, runtime, plan, ports, front: free_port(), kind: spec.front, balancer: None };
        fleet.write_plan();
        fs::write(fleet.deployment_path(), change(fleet.deployment_text(spec), &fleet)).unwrap();
        let deployment = fleet.deployment();
        start(&fleet, &deployment);
        for port in &fleet.ports {
            answers(*port);
        }
        fleet.start_balancer();
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn plan_path(&self) -> PathBuf {
        self.path("plan.toml")
    }

    pub(crate) fn deployment_path(&self) -> PathBuf {
        self.path("deployment.toml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn write_plan(&self) {
        fs::write(self.plan_path(), toml::to_string(&self.plan).unwrap()).unwrap();
    }

    pub(crate) fn deployment(&self) -> Deployment {
        Deployment::load(&self.deployment_path()).unwrap()
    }

    fn deployment_text(&self, spec: &Spec) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let balancer = match spec.front {
            Front::Gateway => format!("kind = 'gateway'\nadmin = 'unix:{}'", at("gateway.sock")),
            Front::Haproxy => format!("kind = 'haproxy'\nsocket = '{}'\nbackend = 'llm'", at("haproxy.sock")),
            Front::Nginx => {
                let conf = at("nginx.conf");
                format!(
                    "kind = 'nginx'\ninclude = '{}'\nupstream = 'llm'\ndirectives = ['least_conn;', 'keepalive 16;']\n\
                     confirm_listen = '127.0.0.1:{}'\ntest = ['nginx', '-c', '{conf}', '-t', '-q']\n\
                     reload = ['nginx', '-c', '{conf}', '-s', 'reload']\nconfirm_within = '5s'",
                    at("owned/upstream.conf"),
                    free_port()
                )
            }
        };
        let command = |model: &str, more: &[String]| {
            let mut words = [
                "replica",
                "--listen",
                "{host}:{port}",
                "--model",
                model,
                "--engine",
                "a100-llama-3.1-8b",
                "--speed-up",
                "20",
            ]
            .map(str::to_owned)
            .to_vec();
            words.extend(more.iter().cloned());
            let quoted: Vec<String> =
                [BINARY.to_owned()].iter().chain(&words).map(|word| format!("'{word}'")).collect();
            quoted.join(", ")
        };
        let mut text = format!(
            "schema = 'slackwater.deployment/1'\ndirectory = 'state'\n{}\n[balancer]\n{balancer}\n\n[engine]\nkind = 'vllm'\n\
             warm_up_tokens = 4\nsmoke = {{ expect = '#0', max_tokens = 3 }}\n\n[gpu]\nkind = 'none'\n\n\
             [versions.from]\ncommand = [{}]\nidentity = {{ root = '/models/v1' }}\n\n\
             [versions.to]\ncommand = [{}]\nidentity = {{ root = '/models/v2' }}\n",
            spec.deployment,
            command("/models/v1", &spec.old),
            command("/models/v2", &spec.new),
        );
        for (index, port) in self.ports.iter().enumerate() {
            text.push_str(&format!(
                "\n[[replicas]]\nname = 'replica-{index}'\nurl = 'http://127.0.0.1:{port}'\n"
            ));
        }
        text
    }

    pub(crate) fn start_balancer(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("balancer.log")).unwrap();
        let mut command = match self.kind {
            Front::Gateway => {
                let mut command = Command::new(BINARY);
                command.args(["gateway", "--listen", &format!("127.0.0.1:{}", self.front)]);
                command.arg("--admin").arg(self.path("gateway.sock"));
                for (index, port) in self.ports.iter().enumerate() {
                    command.arg("--replica").arg(format!("replica-{index}=http://127.0.0.1:{port}"));
                }
                command
            }
            Front::Nginx => {
                self.write_nginx();
                let mut command = Command::new("nginx");
                command.arg("-c").arg(self.path("nginx.conf")).args(["-g", "daemon off;"]);
                command
            }
            Front::Haproxy => {
                self.write_haproxy();
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(self.path("haproxy.cfg"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.balancer = Some(command.spawn().unwrap());
        answers(self.front);
    }

    pub(crate) fn stop_balancer(&mut self) {
        if let Some(mut child) = self.balancer.take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + Duration::from_secs(5);
            while child.try_wait().unwrap().is_none() {
                if Instant::now() > until {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn write_nginx(&self) {
        let at = |name: &str| self.path(name).display().to_string();
        fs::create_dir_all(self.path("owned")).unwrap();
        let include = self.path("owned/upstream.conf");
        if !include.exists() {
            let output = self.slackwater(&["deployment", "nginx", &at("deployment.toml")]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            fs::write(&include, output.stdout).unwrap();
        }
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {};\n", at(&format!("tmp_{kind}"))))
            .collect();
        let conf = format!(
            "user root;\nworker_processes 2;\npid {};\nerror_log {};\nevents {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n\
             {temporary}include {};\nserver {{\nlisten 127.0.0.1:{};\nlocation / {{\nproxy_pass http://llm;\nproxy_http_version 1.1;\n\
             proxy_set_header Connection '';\nproxy_buffering off;\nproxy_read_timeout 300s;\n}}\n}}\n}}\n",
            at("nginx.pid"),
            at("nginx.log"),
            include.display(),
            self.front
        );
        fs::write(self.path("nginx.conf"), conf).unwrap();
    }

    fn write_haproxy(&self) {
        let mut conf = format!(
            "global\n    stats socket {} mode 600 level admin\n    maxconn 2000\ndefaults\n    mode http\n    option http-no-delay\n    \
             timeout connect 5s\n    timeout client 300s\n    timeout server 300s\nfrontend front\n    bind 127.0.0.1:{}\n    \
             default_backend llm\nbackend llm\n    balance leastconn\n    option httpchk GET /health\n",
            self.path("haproxy.sock").display(),
            self.front
        );
        for (index, port) in self.ports.iter().enumerate() {
            conf.push_str(&format!("    server replica-{index} 127.0.0.1:{port} check inter 500ms\n"));
        }
        fs::write(self.path("haproxy.cfg"), conf).unwrap();
    }

    /// Changes what is old and what is new: the way back is a rollout like any other.
    pub(crate) fn turn_round(&mut self) {
        std::mem::swap(&mut self.plan.from, &mut self.plan.to);
        self.write_plan();
        let text = fs::read_to_string(self.deployment_path()).unwrap();
        let text =
            text.replace("[versions.from]", "[versions.x]").replace("[versions.to]", "[versions.from]");
        fs::write(self.deployment_path(), text.replace("[versions.x]", "[versions.to]")).unwrap();
    }

    /// The command, run to its end.
    pub(crate) fn slackwater(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// `slackwater run PLAN` with further arguments, to its end.
    pub(crate) fn run(&self, more: &[&str]) -> Output {
        self.spawn(more).wait_with_output().unwrap()
    }

    pub(crate) fn spawn(&self, more: &[&str]) -> Child {
        let (plan, deployment) = (self.plan_path(), self.deployment_path());
        let mut command = Command::new(BINARY);
        command
            .arg("run")
            .arg(plan)
            .arg("--deployment")
            .arg(deployment)
            .args(["--yes", "--leave-when-held"])
            .args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn resume(&self, more: &[&str]) -> Output {
        let deployment = self.deployment_path().display().to_string();
        let mut arguments = vec!["run", "--resume", "--leave-when-held", "--deployment", &deployment];
        arguments.extend(more);
        self.slackwater(&arguments)
    }

    pub(crate) fn order(&self, order: &str) -> Output {
        self.slackwater(&[order, "--deployment", &self.deployment_path().display().to_string()])
    }

    /// The rollout as `status --json` has it.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.slackwater(&[
            "status",
            "--json",
            "--deployment",
            &self.deployment_path().display().to_string(),
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Streams through the balancer, many at a time.
    pub(crate) fn load(&self, at_once: usize) -> Load {
        self.load_of(at_once, (20, 200))
    }

    /// The same with answers of so many tokens.
    pub(crate) fn load_of(&self, at_once: usize, output_tokens: (u32, u32)) -> Load {
        self.load_with(at_once, |options| options.prompt.output_tokens = output_tokens)
    }

    pub(crate) fn load_with(&self, at_once: usize, change: impl Fn(&mut Options)) -> Load {
        let to: SocketAddr = format!("127.0.0.1:{}", self.front).parse().unwrap();
        let mut options = Options::new(to, Pace::Concurrency(at_once));
        // A reload of nginx closes the idle connections of its clients, and a request that is just being sent on one is lost: those that
        // reuse connections have to send it again (or nginx >= 1.27.4 with keepalive_min_timeout). Not a matter of draining.
        options.keep_alive = self.kind != Front::Nginx;
        change(&mut options);
        let _inside = self.runtime.enter();
        Load::start(options)
    }

    pub(crate) fn stop_load(&self, load: Load) -> Report {
        self.runtime.block_on(load.stop())
    }

    /// What each replica serves: the root that it names, or why it does not.
    pub(crate) fn roots(&self) -> Vec<String> {
        self.ports.iter().map(|port| root(*port).unwrap_or_else(|why| why)).collect()
    }

    /// The processes that listen on the replicas' ports.
    pub(crate) fn pids(&self) -> Vec<Option<u32>> {
        self.ports.iter().map(|port| slackwater_exec::procfs::listener(*port)).collect()
    }

    /// Waits until the rollout says so.
    pub(crate) fn until(&self, what: &str, says: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.slackwater(&[
                "status",
                "--json",
                "--deployment",
                &self.deployment_path().display().to_string(),
            ]);
            let status = serde_json::from_slice(&output.stdout).unwrap_or(serde_json::Value::Null);
            if says(&status) {
                return status;
            }
            assert!(Instant::now() < until, "not {what}: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop_balancer();
        let pids: Vec<u32> = self.pids().into_iter().flatten().collect();
        for pid in pids {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if std::thread::panicking() {
            for file in ["balancer.log", "nginx.log", "state/rollout-1.log"] {
                if let Ok(text) = fs::read_to_string(self.path(file)) {
                    eprintln!("--- {file}\n{text}");
                }
            }
        }
    }
}

/// Waits until something listens there.
pub(crate) fn answers(port: u16) {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn root(port: u16) -> Result<String, String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = &body[body.find('{').unwrap_or(0)..body.rfind('}').map_or(0, |at| at + 1)];
    let models: serde_json::Value =
        serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
    models.pointer("/data/0/root").and_then(|root| root.as_str()).map(str::to_owned).ok_or(answer)
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn exit(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Every record of the last rollout.
pub(crate) fn records(state: &Path) -> Vec<slackwater_policy::Record> {
    let journal = slackwater_exec::journal::Journal::read(state).unwrap();
    let last = journal.rollouts().unwrap().pop().unwrap();
    journal.records(last.id).unwrap()
}

/// The first replica serves the new version. One that is only known to be new is not yet back in rotation.
pub(crate) fn first_runs_new(status: &serde_json::Value) -> bool {
    let first = &status["status"]["replicas"][0];
    first["running"] == "to" && (first["state"] == "readmitted" || first["state"] == "soaked")
}

/// The same of a rollout that is not the journal's first: the one before may have ended so.
pub(crate) fn first_runs_new_now(status: &serde_json::Value) -> bool {
    status["pid"].is_number() && first_runs_new(status)
}
