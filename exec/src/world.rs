//! The world as the policy sees it: each command is carried out once by the adapters and becomes one reply. Nothing is decided here.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use slackwater_policy::{Action, Block, Command, Observed, Plan, ReplicaId, Reply, VersionRef};

use crate::balancer::{self, Balancer};
use crate::blocks::Blocks;
use crate::deployment::{BalancerSpec, Deployment, Place, SupervisorSpec};
use crate::engine::Engine;
use crate::figures::{Counted, Live};
use crate::gpu::Gpus;
use crate::hook;
use crate::supervisor::{self, Running, Supervisor};
use crate::trouble::Trouble;
use crate::weights;

/// What the executor itself has made so, and so keeps so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// In rotation, or out of it; `None`: never touched.
    pub(crate) in_rotation: Option<bool>,
    /// A process is meant to be there: if it is gone, it went by itself.
    pub(crate) process: bool,
    /// What it was last seen to serve.
    pub(crate) version: Option<VersionRef>,
}

/// The adapters of one deployment.
pub struct World {
    pub(crate) deployment: Arc<Deployment>,
    plan: Arc<Plan>,
    pub(crate) balancer: Box<dyn Balancer>,
    pub(crate) supervisor: Box<dyn Supervisor>,
    pub(crate) engine: Engine,
    pub(crate) gpus: Option<Arc<dyn Gpus>>,
    made: Mutex<BTreeMap<ReplicaId, Made>>,
    pub(crate) counted: Mutex<Counted>,
    pub(crate) live: Mutex<Live>,
    /// As last counted by the balancer and by the engine.
    pub(crate) in_flight: Mutex<BTreeMap<ReplicaId, Counts>>,
    /// One act a replica at a time, in the order asked; the last lane is the whole service's.
    lanes: Vec<Arc<Lane>>,
}

type Counts = (Option<u32>, Option<u32>);
type Lane = tokio::sync::Mutex<()>;

impl World {
    /// The adapters that a deployment, in its plan's order, asks for.
    pub fn new(deployment: Deployment, plan: Plan, gpus: Option<Arc<dyn Gpus>>) -> World {
        let deployment = Arc::new(deployment);
        World {
            balancer: balancer::adapter(&deployment),
            supervisor: supervisor::adapter(&deployment),
            engine: Engine::new(Arc::clone(&deployment)),
            plan: Arc::new(plan),
            gpus,
            made: Mutex::default(),
            counted: Mutex::default(),
            live: Mutex::default(),
            in_flight: Mutex::default(),
            lanes: (0..=deployment.replicas.len()).map(|_| Arc::default()).collect(),
            deployment,
        }
    }

    pub(crate) fn place(&self, replica: ReplicaId) -> &Place {
        &self.deployment.replicas[replica.index()]
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..u16::MAX).map(ReplicaId).take(self.deployment.replicas.len())
    }

    pub(crate) fn made(&self, replica: ReplicaId) -> Made {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&replica).copied().unwrap_or_default()
    }

    pub(crate) fn lane(&self, replica: ReplicaId) -> Arc<Lane> {
        Arc::clone(&self.lanes[replica.index().min(self.lanes.len() - 1)])
    }

    /// Whether a look at a replica starts programs.
    pub(crate) fn speaks_by_commands(&self) -> bool {
        let by_commands =
            matches!(self.deployment.supervisor, SupervisorSpec::Command(_) | SupervisorSpec::Systemd(_));
        by_commands || matches!(self.deployment.balancer, BalancerSpec::Command(_))
    }

    pub(crate) fn forget_process(&self, replica: ReplicaId) {
        self.make(replica, |made| made.process = false);
    }

    fn make(&self, replica: ReplicaId, change: impl Fn(&mut Made)) {
        change(self.made.lock().unwrap_or_else(PoisonError::into_inner).entry(replica).or_default());
    }

    /// Carries a command out, once.
    pub async fn carry_out(&self, command: &Command) -> Reply {
        let done = match command.replica {
            Some(replica) => self.at(replica, &command.action).await,
            None => self.measure_load().await,
        };
        done.unwrap_or_else(Reply::from)
    }

    async fn at(&self, replica: ReplicaId, action: &Action) -> Result<Reply, Trouble> {
        let place = self.place(replica);
        match action {
            Action::Observe => self.observe(replica).await.map(Reply::Observed),
            Action::TakeOut { .. } => {
                self.make(replica, |made| made.in_rotation = Some(false));
                self.balancer.take_out(place).await?;
                Ok(Reply::Out)
            }
            Action::ProbeInFlight => Ok(self.probe_in_flight(replica).await),
            Action::CutInFlight => Ok(Reply::Cut { requests: self.balancer.cut(place).await? }),
            Action::Stop { grace } => {
                self.make(replica, |made| made.process = false);
                let in_flight = self.balancer.member(place).await.ok().and_then(|member| member.in_flight);
                self.supervisor.stop(place, hook::duration(*grace)).await?;
                Ok(Reply::Stopped { cut: in_flight.unwrap_or(0) })
            }
            Action::ProbeGpu { version } => self.probe_gpu(place, *version).await,
            Action::Start { version } => {
                self.supervisor.start(place, *version).await?;
                self.make(replica, |made| made.process = true);
                Ok(Reply::Started)
            }
            Action::ProbeHealth => self.probe_health(place).await,
            Action::ProbeFingerprint { .. } => {
                let running = self.running(place).await?;
                let seen = self.version(place, running.as_ref()).await?;
                self.make(replica, |made| made.version = seen);
                Ok(Reply::Fingerprint { seen })
            }
            Action::SmokePrompt => self.engine.smoke(place).await.map(|()| Reply::SmokeAnswered),
            Action::WarmUp { requests } => {
                self.engine.warm_up(place, *requests).await.map(|()| Reply::WarmedUp)
            }
            Action::Admit { weight } => {
                self.make(replica, |made| made.in_rotation = Some(true));
                let version = self.made(replica).version.map(|version| match version {
                    VersionRef::From => self.plan.from.name.as_str(),
                    VersionRef::To => self.plan.to.name.as_str(),
                });
                self.balancer.admit(place, *weight, version).await?;
                Ok(Reply::Admitted)
            }
            Action::Swap { .. } => Err(Trouble::lasting(
                "weights can't be swapped in a running process yet; use another strategy than `swap`",
            )),
            Action::Evaluate { live } => self.evaluate(place, *live).await,
            Action::MeasureLoad => self.measure_load().await,
        }
    }

    async fn running(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        let found = self.supervisor.find(place).await;
        found
            .map_err(|trouble| trouble.while_doing(format!("{}: its process can't be looked at", place.name)))
    }

    /// The version that answers; in a drill the policy tells old from new by the stop it confirmed.
    async fn version(&self, place: &Place, running: Option<&Running>) -> Result<Option<VersionRef>, Trouble> {
        let seen = self.engine.look(place, running).await?;
        Ok(seen.version(&self.deployment, place))
    }

    /// A replica as it is.
    pub(crate) async fn observe(&self, replica: ReplicaId) -> Result<Observed, Trouble> {
        let place = self.place(replica);
        let member = self.balancer.member(place).await?;
        let running = self.running(place).await?;
        let healthy = running.is_some() && self.engine.healthy(place).await.is_ok();
        let version = match (&running, healthy) {
            (Some(running), true) => self.version(place, Some(running)).await.ok().flatten(),
            // It answers nothing yet, but it is known as what it was started.
            (Some(running), false) => running.version,
            (None, _) => None,
        };
        self.make(replica, |made| (made.process, made.version) = (running.is_some(), version));
        Ok(Observed {
            in_rotation: member.in_rotation,
            process: running.is_some(),
            healthy,
            version,
            undo_ready: self.undo_ready().is_ok(),
        })
    }

    /// Whether the old version is still there to go back to.
    pub(crate) fn undo_ready(&self) -> Result<(), String> {
        weights::complete(self.deployment.versions.from.weights.as_deref())
    }

    async fn probe_in_flight(&self, replica: ReplicaId) -> Reply {
        let place = self.place(replica);
        let balancer = self.balancer.member(place).await.ok().and_then(|member| member.in_flight);
        let engine = self.engine.in_flight(place).await;
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(replica, (balancer, engine));
        if balancer.is_none() && engine.is_none() {
            let reason = "neither the balancer nor the engine says what is in flight";
            return Trouble::passing(reason).into();
        }
        Reply::InFlight { balancer, engine }
    }

    async fn probe_gpu(&self, place: &Place, version: VersionRef) -> Result<Reply, Trouble> {
        let left = self.supervisor.leftovers(place).await;
        if !left.is_empty() {
            let list: Vec<String> = left.iter().map(u32::to_string).collect();
            return Err(Trouble::passing(format!(
                "processes {} of the stopped engine are still there",
                list.join(", ")
            )));
        }
        let needed = self.deployment.versions.of(version).memory_mib;
        let (Some(needed), Some(gpus)) = (needed, self.gpus.clone()) else { return Ok(Reply::GpuFree) };
        let indices = place.gpus.clone();
        let look = move || {
            for gpu in indices {
                let free = gpus.free_mib(gpu)?;
                if free < needed {
                    let holders: Vec<String> = gpus.holders(gpu).iter().map(u32::to_string).collect();
                    let by = if holders.is_empty() {
                        "nobody it knows of".to_owned()
                    } else {
                        format!("processes {}", holders.join(", "))
                    };
                    return Err(format!(
                        "GPU {gpu} has {free} MiB free, {version} needs {needed}; the rest is held by {by}"
                    ));
                }
            }
            Ok(())
        };
        // A driver in trouble may hang for seconds; that must not stop anything else.
        let looked = tokio::task::spawn_blocking(look).await;
        looked.map_err(|error| Trouble::passing(error.to_string()))?.map_err(Trouble::passing)?;
        Ok(Reply::GpuFree)
    }

    async fn probe_health(&self, place: &Place) -> Result<Reply, Trouble> {
        if self.running(place).await?.is_none() {
            let words = self
                .supervisor
                .last_words(place)
                .await
                .map_or(String::new(), |words| format!("; it last wrote: {words}"));
            return Err(Trouble::lasting(format!("its process is gone{words}")));
        }
        self.engine.healthy(place).await.map(|()| Reply::Healthy)
    }

    async fn evaluate(&self, place: &Place, live: bool) -> Result<Reply, Trouble> {
        let command =
            self.plan.rollout.quality.as_ref().map(|quality| quality.command.clone()).unwrap_or_default();
        if command.is_empty() {
            return Err(Trouble::lasting(
                "the plan asks for an evaluation, but rollout.quality.command is empty",
            ));
        }
        let more = [("live", live.to_string())];
        let arguments =
            hook::filled("rollout.quality.command", &command, Some(place), Some(VersionRef::To), &more)?;
        // The policy bounds how long an evaluation may take.
        let (code, said) = hook::exit_code("rollout.quality.command", &arguments).await?;
        Ok(Reply::Evaluated { passed: code == 0, said })
    }

    async fn measure_load(&self) -> Result<Reply, Trouble> {
        let live = self.look_at_figures().await;
        let rate = live.rate.filter(|rate| rate.is_finite());
        let rate = rate.ok_or_else(|| {
            Trouble::passing("neither the balancer nor the engines say how many requests there are (counters need two looks)")
        })?;
        Ok(Reply::Load { rate })
    }

    /// What the engines say of both versions since the last look, where the plan compares them.
    pub(crate) async fn look_at_both(&self, blocks: &mut Blocks) -> Option<Block> {
        let spec = self.plan.strategy.measured_comparison()?;
        let mut pages = Vec::new();
        for replica in self.ids() {
            let Some(version) = self.made(replica).version else { continue };
            if let Ok(Some(page)) = self.engine.metrics(self.place(replica)).await {
                pages.push((replica.index(), version, page));
            }
        }
        blocks.block(&spec, pages)
    }

    /// What clients saw lately.
    pub(crate) async fn look_at_figures(&self) -> Live {
        let balancer = self.balancer.live().await.unwrap_or_default();
        let mut pages = Vec::new();
        if balancer.rate.is_none() || balancer.ttft.is_none() {
            for replica in self.ids() {
                if let Ok(Some(page)) = self.engine.metrics(self.place(replica)).await {
                    pages.push((replica.index(), page));
                }
            }
        }
        let now = crate::clock::Clock::steady(&crate::clock::SystemClock);
        let now = slackwater_policy::Time::ZERO + now;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.saw(now, pages, &balancer);
        let live = counted.complete(balancer);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&live);
        live
    }

    pub(crate) fn make_folders(&self) -> Result<(), String> {
        let folder = &self.deployment.directory;
        fs::create_dir_all(folder).map_err(|error| format!("{} can't be made: {error}", folder.display()))
    }
}
