//! What a stand-in is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use slackwater_scenarios::HumanDuration;

use crate::error::ReplicaError;
use crate::fault::Fault;
use crate::profile::Profile;
use crate::start_up::StartUp;

/// Memory taken on a fake GPU; see [`crate::fake_gpu`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuClaim {
    /// The folder that stands for the machine's GPUs.
    pub folder: PathBuf,
    /// The GPUs that the replica spans.
    pub gpus: Vec<u32>,
    /// What it takes on each.
    pub memory_mib: u64,
}

/// How a stand-in is to behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// The model's path: `root` in `/v1/models`, and what the answers' label is made of ([`crate::text::label`]).
    pub model: String,
    /// The name that clients use, `id` in `/v1/models`.
    pub served_name: String,
    /// What `/version` says.
    pub version: String,
    /// The engine.
    pub profile: Profile,
    /// How many times as fast as the model it runs, from 0.001 to 1000. The start-up is not changed. The model's time ends
    /// after 106 days: at 1000 that is two and a half hours.
    pub speed_up: f64,
    /// How long it loads.
    pub start_up: StartUp,
    /// Tokens of an answer that ends by itself, as most chat does; a request's `max_tokens` may end it sooner, and its
    /// `ignore_eos` lets it go on to `max_tokens`.
    pub natural_length: u32,
    /// Most tokens of prompt and answer together.
    pub max_model_len: u32,
    /// After SIGTERM: how long requests in flight may go on. Zero aborts them at once, as vLLM does unless told otherwise.
    pub shutdown_timeout: Duration,
    /// Memory on a fake GPU.
    pub gpu: Option<GpuClaim>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Options {
    /// A stand-in of `model` on any free port of the loopback, that starts at once.
    #[must_use]
    pub fn new(model: &str, profile: Profile) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            model: model.to_owned(),
            served_name: "chat".to_owned(),
            version: format!("{}-stand-in", env!("CARGO_PKG_VERSION")),
            profile,
            speed_up: 1.0,
            start_up: StartUp::default(),
            natural_length: 128,
            max_model_len: 32_768,
            shutdown_timeout: Duration::ZERO,
            gpu: None,
            faults: Vec::new(),
        }
    }

    /// # Errors
    /// Names the option that is out of range.
    pub(crate) fn check(&self) -> Result<(), ReplicaError> {
        let wrong = |option, reason: &str| Err(ReplicaError::Option { option, reason: reason.to_owned() });
        if !(0.001..=1000.0).contains(&self.speed_up) {
            return wrong("--speed-up", "give a factor from 0.001 to 1000");
        }
        if self.served_name.is_empty() {
            return wrong("--served-name", "give the name that clients ask for");
        }
        if self.model.is_empty() {
            return wrong("--model", "give a path or a name");
        }
        if self.natural_length == 0 {
            return wrong("--natural-length", "an answer has at least 1 token");
        }
        if self.max_model_len < 2 {
            return wrong("--max-model-len", "prompt and answer have at least 2 tokens");
        }
        Ok(())
    }

    /// What it really serves.
    pub(crate) fn model_served(&self) -> String {
        if self.faults.contains(&Fault::WrongModel) {
            format!("{}-wrong", self.model)
        } else {
            self.model.clone()
        }
    }

    pub(crate) fn slowness(&self) -> f64 {
        self.faults.iter().map(|fault| if let Fault::Slow(factor) = fault { *factor } else { 1.0 }).product()
    }

    pub(crate) fn dies_after(&self) -> Option<u32> {
        self.faults
            .iter()
            .filter_map(|fault| if let Fault::DiesMidStream(tokens) = fault { Some(*tokens) } else { None })
            .min()
    }

    pub(crate) fn lingers(&self) -> HumanDuration {
        self.faults
            .iter()
            .filter_map(|fault| if let Fault::LingeringMemory(time) = fault { Some(*time) } else { None })
            .max()
            .unwrap_or(HumanDuration::ZERO)
    }
}
