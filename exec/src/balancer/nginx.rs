//! nginx, by one include file that is ours alone.
//!
//! ```text
//!   read, check the hash ─► write beside ─► keep a copy ─► rename ─► nginx -t ─► reload ─► ask new connections until
//!          │ edited? refuse                                   │ bad? the old one back        all of them answer the new generation
//! ```
//!
//! `nginx -s reload` exits with 0 also where the new configuration is not applied, so its word is not taken: the file has a little server
//! that answers with the file's generation, and only connections made anew are asked. What is in flight at one replica nginx does not say:
//! established connections to its port are counted, which after a reload are those of requests (idle ones end with the old workers).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::nginx_include::{Include, word};
use super::{Balancer, Member};
use crate::deployment::{NginxSpec, Place};
use crate::files::write_whole;
use crate::hook;
use crate::http::{self, Base, our_ports, short};
use crate::procfs;
use crate::shell::{join, quote};
use crate::trouble::Trouble;

/// How many new connections in a row must meet the new generation: old workers stop listening one after another.
const IN_A_ROW: u32 = 8;
const ASK_EVERY: Duration = Duration::from_millis(15);
/// Between the last old worker's last accepted connection and the request on it being passed on; 0.1 s was measured.
const SETTLE: Duration = Duration::from_millis(100);
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// nginx.
#[derive(Debug)]
pub struct Nginx {
    spec: NginxSpec,
    places: Vec<Place>,
    /// Where generations are kept.
    keep: PathBuf,
    /// One change of the file at a time.
    changing: Mutex<()>,
}

impl Nginx {
    /// As the deployment has it, with all its replicas and the folder for what is kept.
    pub fn new(spec: NginxSpec, places: Vec<Place>, keep: PathBuf) -> Nginx {
        Nginx { spec, places, keep: keep.join("nginx"), changing: Mutex::new(()) }
    }

    /// The include file with every replica in rotation, to begin with.
    pub fn first_include(&self) -> String {
        let mut include = Include::first(&self.places);
        // One that was kept of an earlier rollout is not to be taken for newer.
        include.generation = self.newest_kept().unwrap_or(0) + 1;
        include.text(&self.spec, &self.places)
    }

    fn read(&self) -> Result<Include, Trouble> {
        self.read_with_text().map(|(include, _)| include)
    }

    /// The file as it was read, too.
    fn read_with_text(&self) -> Result<(Include, String), Trouble> {
        let path = self.spec.include.display();
        let text = fs::read_to_string(&self.spec.include).map_err(|error| {
            Trouble::lasting(format!(
                "nginx's include file {path} can't be read: {error}; `slackwater deployment nginx` prints the one to begin with"
            ))
        })?;
        let include = Include::read(&text, &self.places).map_err(|what| {
            let kept = format!(" (what Slackwater last wrote is in {})", self.keep.display());
            Trouble::lasting(format!(
                "nginx's include file {path}: {what}; it is not overwritten. Put it back as it was{kept}, or begin again with what \
                 `slackwater deployment nginx` prints"
            ))
        })?;
        if let Some(newest) = self.newest_kept().filter(|newest| include.generation + 1 < *newest) {
            return Err(Trouble::lasting(format!(
                "nginx's include file {path} is of generation {}, but {newest} was written since: somebody put an old one back; put \
                 generation {newest} there (it is in {})",
                include.generation,
                self.keep.display()
            )));
        }
        Ok((include, text))
    }

    fn kept(&self, generation: u64) -> PathBuf {
        self.keep.join(format!("{generation}.conf"))
    }

    fn saved(&self) -> PathBuf {
        self.keep.join("before.conf.saved")
    }

    fn newest_kept(&self) -> Option<u64> {
        let entries = fs::read_dir(&self.keep).ok()?;
        let generation = |name: &str| name.strip_suffix(".conf")?.parse().ok();
        entries.filter_map(|entry| generation(entry.ok()?.file_name().to_str()?)).max()
    }

    fn write(path: &Path, text: &str) -> Result<(), Trouble> {
        write_whole(path, text).map_err(|error| {
            Trouble::lasting(format!(
                "{} can't be written: {error}; check the folder's permissions and space",
                path.display()
            ))
        })
    }

    fn keep_copy(&self, path: &Path, text: &str) -> Result<(), Trouble> {
        let made = fs::create_dir_all(&self.keep);
        made.map_err(|error| Trouble::lasting(format!("{}: {error}", self.keep.display())))?;
        Nginx::write(path, text)
    }

    fn urls(&self) -> Vec<String> {
        match self.spec.confirm.is_empty() {
            true => vec![format!("http://{}", self.spec.confirm_listen)],
            false => self.spec.confirm.clone(),
        }
    }

    /// What every nginx says it runs; an error names the first that says nothing.
    async fn running(&self) -> Result<Vec<String>, Trouble> {
        let mut all = Vec::new();
        for url in self.urls() {
            let base = Base::parse(&url).map_err(Trouble::lasting)?;
            let answer = http::get(&base, "/", ASK_WITHIN).await.map_err(|trouble| {
                trouble.while_doing(format!(
                    "nginx does not say which generation of its include file it runs ({url})"
                ))
            })?;
            all.push(short(&answer.body));
        }
        Ok(all)
    }

    /// Waits until new connections to every nginx meet this generation and no other.
    async fn confirm(&self, generation: u64) -> Result<(), Trouble> {
        let wanted = word(&self.spec, generation);
        let until = Instant::now() + hook::duration(self.spec.confirm_within);
        let (mut in_a_row, mut last) = (0, String::new());
        while in_a_row < IN_A_ROW {
            match self.running().await {
                Ok(all) if all.iter().all(|said| *said == wanted) => in_a_row += 1,
                Ok(all) => (in_a_row, last) = (0, format!("it answers `{}`", all.join("`, `"))),
                Err(trouble) => (in_a_row, last) = (0, trouble.reason),
            }
            if in_a_row < IN_A_ROW && Instant::now() >= until {
                return Err(Trouble::passing(format!(
                    "nginx was told to reload and reported no error, but does not run `{wanted}`: {last}; its error log says why (a \
                     port that is taken, for one)"
                )));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// Ensures that nginx runs the file with this change.
    async fn change(&self, change: impl Fn(&mut Include) + Send) -> Result<(), Trouble> {
        let _one = self.changing.lock().await;
        let (before, old) = self.read_with_text()?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            // Written already; perhaps the reload is what is missing.
            let wanted = before.word(&self.spec);
            if !self.running().await.is_ok_and(|all| all.iter().all(|said| *said == wanted)) {
                self.test().await?;
                hook::run("balancer.reload", &self.spec.reload, COMMAND_WITHIN).await?;
            }
            return self.confirm(before.generation).await;
        }
        after.generation = before.generation.max(self.newest_kept().unwrap_or(0)) + 1;
        let new = after.text(&self.spec, &self.places);
        self.keep_copy(&self.kept(after.generation), &new)?;
        if fs::read_to_string(&self.spec.include).ok().as_ref() != Some(&old) {
            return Err(Trouble::passing("nginx's include file was changed by somebody else just now"));
        }
        Nginx::write(&self.spec.include, &new)?;
        if let Err(trouble) = self.test().await {
            // nginx has not read it: with the old one back nothing has happened.
            Nginx::write(&self.spec.include, &old)?;
            let _ = fs::remove_file(self.kept(after.generation));
            return Err(trouble);
        }
        hook::run("balancer.reload", &self.spec.reload, COMMAND_WITHIN).await?;
        self.confirm(after.generation).await?;
        self.forget_old(after.generation);
        Ok(())
    }

    async fn test(&self) -> Result<(), Trouble> {
        let tested = hook::run("balancer.test", &self.spec.test, COMMAND_WITHIN).await;
        tested.map(|_| ()).map_err(|trouble| trouble.while_doing("nginx refuses its configuration"))
    }

    /// A rollout makes two generations a replica; the last few dozen are enough to look back.
    fn forget_old(&self, newest: u64) {
        if let Some(old) = newest.checked_sub(50) {
            let _ = fs::remove_file(self.kept(old));
        }
    }

    /// The configuration as nginx reads it, where its test command can be turned into one that prints it.
    async fn dump(&self) -> Option<String> {
        let at = self.spec.test.iter().position(|argument| argument == "-t")?;
        let mut command = self.spec.test.clone();
        "-T".clone_into(&mut command[at]);
        command.retain(|argument| argument != "-q");
        hook::run("balancer.test", &command, COMMAND_WITHIN).await.ok()
    }
}

#[async_trait]
impl Balancer for Nginx {
    fn name(&self) -> String {
        format!("nginx's upstream {} in {}", self.spec.upstream, self.spec.include.display())
    }

    async fn member(&self, place: &Place) -> Result<Member, Trouble> {
        let mut include = self.read()?;
        let running = self.running().await?;
        if running.iter().any(|said| *said != include.word(&self.spec)) {
            // What counts is what nginx runs, and that is one that was kept.
            let generation =
                running.iter().find_map(|said| said.strip_prefix(&self.spec.upstream)?.trim().parse().ok());
            let kept = generation.map(|generation| self.kept(generation));
            let text = kept.and_then(|kept| fs::read_to_string(kept).ok());
            let read = text.and_then(|text| Include::read(&text, &self.places).ok());
            include = read.ok_or_else(|| {
                Trouble::passing(format!(
                    "nginx runs `{}`, the include file is `{}`, and what it runs is not known; reload nginx",
                    running.join("`, `"),
                    include.word(&self.spec)
                ))
            })?;
        }
        let in_rotation = include.servers.get(&place.name).is_some_and(|server| !server.down);
        let port = Base::parse(&place.url).ok().and_then(|base| base.port());
        Ok(Member { in_rotation, in_flight: port.and_then(|port| procfs::established(port, &our_ports())) })
    }

    async fn take_out(&self, place: &Place) -> Result<(), Trouble> {
        self.change(|include| {
            if let Some(server) = include.servers.get_mut(&place.name) {
                server.down = true;
            }
        })
        .await
    }

    async fn admit(&self, place: &Place, weight: Option<u8>, _version: Option<&str>) -> Result<(), Trouble> {
        if weight.is_some_and(|percent| percent < 100) && !self.spec.weights {
            return Err(Trouble::lasting(
                "weights of nginx cost a reload each and are not asked for (balancer.weights = true does)",
            ));
        }
        self.change(|include| {
            if let Some(server) = include.servers.get_mut(&place.name) {
                server.down = false;
                if let Some(percent) = weight {
                    let share = (u32::from(place.weight) * u32::from(percent)).div_ceil(100).max(1);
                    server.weight = u16::try_from(share).unwrap_or(place.weight);
                }
            }
        })
        .await
    }

    async fn cut(&self, _place: &Place) -> Result<u32, Trouble> {
        Err(Trouble::lasting("nginx can't end one server's streams; the stop does"))
    }

    async fn prepare(&self, _places: &[Place]) -> Result<Vec<String>, Trouble> {
        let include = self.read()?;
        self.test().await?;
        let running = self.running().await?;
        let wanted = include.word(&self.spec);
        if let Some(other) = running.iter().find(|said| **said != wanted) {
            return Err(Trouble::lasting(format!(
                "nginx runs `{other}`, its include file is `{wanted}`: reload nginx, and see that it then answers `{wanted}` at {}",
                self.urls().join(", ")
            )));
        }
        let folder = self.spec.include.parent().unwrap_or(Path::new("/"));
        let probe = folder.join(".slackwater-may-write");
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).map_err(|error| {
            Trouble::lasting(format!(
                "nginx's include folder {} can't be written to: {error}",
                folder.display()
            ))
        })?;
        let mut lines = vec![
            format!(
                "{}: mark a server `down`, later not, in a new generation each (now {})",
                self.name(),
                include.generation
            ),
            format!("  check  {}", join(&self.spec.test)),
            format!("  reload {}", join(&self.spec.reload)),
            "warning: each reload of nginx closes its clients' idle connections, and a request that is just being sent on one is lost \
             unless the client sends it again; nginx 1.27.4 and later avoid that with `keepalive_min_timeout`"
                .to_owned(),
        ];
        if let Some(dump) = self.dump().await {
            let cuts = dump.lines().map(str::trim).find(|line| line.starts_with("worker_shutdown_timeout"));
            if let Some(line) = cuts {
                lines.push(format!(
                    "warning: nginx has `{line}`: each reload cuts what is older than that, at every replica; take it out or make it \
                     longer than the drain timeout"
                ));
            }
        }
        Ok(lines)
    }

    async fn save(&self) -> Result<(), Trouble> {
        let (include, text) = self.read_with_text()?;
        self.keep_copy(&self.kept(include.generation), &text)?;
        self.keep_copy(&self.saved(), &text)
    }

    fn recovery(&self, _places: &[Place]) -> Vec<String> {
        let (saved, include) = (self.saved(), &self.spec.include);
        vec![
            format!("cp {} {}", quote(&saved.to_string_lossy()), quote(&include.to_string_lossy())),
            join(&self.spec.test),
            join(&self.spec.reload),
        ]
    }
}
