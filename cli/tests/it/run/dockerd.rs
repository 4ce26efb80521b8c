//! A Docker engine for one test: a daemon of its own with its own folders and socket, and images made of this program and its libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::fleet::{BINARY, text};

/// The daemon. It ends, with all its containers, when this goes.
pub(crate) struct Dockerd {
    folder: tempfile::TempDir,
    child: Child,
}

impl Dockerd {
    /// Starts one; `None` where that can't be, which is said.
    ///
    /// Under `SLACKWATER_REQUIRE_REAL=1` what is not installed fails the test. A daemon that is installed and can't start (an unprivileged
    /// container, as of some CI machines) fails it too, unless `SLACKWATER_NO_DOCKER` gives the reason, as `.ci/run` does after it has tried.
    pub(crate) fn start() -> Option<Dockerd> {
        let required = std::env::var_os("SLACKWATER_REQUIRE_REAL").is_some();
        let missing = |what: &str| {
            assert!(!required, "{what}");
            eprintln!("skipped: {what}");
        };
        if let Some(why) = std::env::var_os("SLACKWATER_NO_DOCKER").filter(|it| !it.is_empty()) {
            eprintln!("skipped: no Docker engine can run here: {}", why.to_string_lossy());
            return None;
        }
        for program in ["dockerd", "docker"] {
            let found = Command::new("which").arg(program).output().is_ok_and(|it| it.status.success());
            if !found {
                missing(&format!(
                    "{program} is not installed: this test needs it (apt-get install docker.io)"
                ));
                return None;
            }
        }
        if !rustix::process::geteuid().is_root() {
            missing("a Docker daemon of the test's own needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("swd").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let log = fs::File::create(at("dockerd.log")).unwrap();
        let mut command = Command::new("dockerd");
        command
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root"])
            .arg(at("data"));
        command.arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        command.arg("-H").arg(format!("unix://{}", at("docker.sock").display()));
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut dockerd = Dockerd { folder, child };
        let until = Instant::now() + Duration::from_secs(60);
        while !dockerd.docker(&["info"]).status.success() {
            let ended = dockerd.child.try_wait().unwrap().is_some();
            if ended || Instant::now() > until {
                let log = fs::read_to_string(dockerd.path("dockerd.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                missing(&format!("dockerd does not start here: {}", last.join(" | ")));
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(dockerd)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> String {
        self.path("docker.sock").display().to_string()
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket());
        Command::new("docker").args(["-H", &host]).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The same, which has to work; what it printed.
    pub(crate) fn did(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(output.status.success(), "docker {}: {}", arguments.join(" "), text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A container as the engine has it.
    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        let all: serde_json::Value =
            serde_json::from_str(&self.did(&["container", "inspect", name])).unwrap();
        all[0].clone()
    }

    /// Images `slackwater-test:v1` and `:v2` with this program as `/bin/slackwater`.
    pub(crate) fn import_stand_ins(&self) {
        let root = self.path("root");
        with_libraries(Path::new(BINARY), &root, "bin/slackwater");
        fs::create_dir_all(root.join("tmp")).unwrap();
        self.import(&root, "slackwater-test");
    }

    /// A root file system as two images that differ in one file.
    pub(crate) fn import(&self, root: &Path, name: &str) {
        for version in ["v1", "v2"] {
            fs::write(root.join("version"), version).unwrap();
            let archive = self.path("root.tar");
            let made =
                Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg(".").status().unwrap();
            assert!(made.success());
            let change = format!("ENV IMAGE_VERSION={version}");
            let archive = archive.display().to_string();
            self.did(&["import", "--change", &change, &archive, &format!("{name}:{version}")]);
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let all = String::from_utf8_lossy(&self.docker(&["ps", "-aq"]).stdout).into_owned();
        let ids: Vec<&str> = all.split_whitespace().collect();
        if std::thread::panicking() {
            eprintln!("{}", text(&self.docker(&["ps", "-a"])));
            for id in &ids {
                eprintln!("--- {id}\n{}", text(&self.docker(&["logs", "--tail", "5", id])));
            }
        }
        if !ids.is_empty() {
            self.docker(&[&["rm", "-f"], ids.as_slice()].concat());
        }
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        let until = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The network namespace that containers shared stays mounted, and its folder could not be removed.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mounted in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if Path::new(mounted).starts_with(self.folder.path()) {
                let _ = Command::new("umount").args(["-l", mounted]).status();
            }
        }
    }
}

/// Copies a program and the libraries that it is linked against into a root file system.
pub(crate) fn with_libraries(program: &Path, root: &Path, to: &str) {
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(program, &root.join(to));
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')));
    }
}
