//! `slackwater gateway` and `slackwater replica`: servers that run until they are told to stop.

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slackwater_gateway::{Config, Gateway};
use slackwater_replica::{Ended, GpuClaim, Options, Profile, Server, fake_gpu};

use crate::output::say;
use crate::serve_args;

/// A fake GPU folder that is made.
const FAKE_GPUS: (u32, u64) = (8, 80 * 1024);

pub(crate) fn gateway(arguments: &serve_args::Gateway) -> anyhow::Result<()> {
    let mut config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    config.listen = arguments.listen.unwrap_or(config.listen);
    config.metrics = arguments.metrics.or(config.metrics);
    if arguments.admin.is_some() {
        config.admin.clone_from(&arguments.admin);
    }
    if arguments.access_log.is_some() {
        config.access_log.clone_from(&arguments.access_log);
    }
    for replica in &arguments.replicas {
        match config.replicas.iter_mut().find(|known| known.name == replica.name) {
            Some(known) => known.url.clone_from(&replica.url),
            None => config.replicas.push(replica.clone()),
        }
    }
    serve(async {
        let told = |name: &str, healthy: bool| {
            say(&format!("replica {name} is {}", if healthy { "healthy" } else { "unhealthy" }));
        };
        let gateway = Gateway::start(config, told).await?;
        if let Some(admin) = gateway.admin() {
            say(&match admin {
                slackwater_gateway::Admin::Socket(path) => format!("admin on {}", path.display()),
                slackwater_gateway::Admin::Loopback(address) => format!("admin on http://{address}"),
            });
        }
        if let Some(address) = gateway.metrics() {
            say(&format!("metrics on http://{address}/metrics"));
        }
        say(&format!("listening on http://{}", gateway.address()));
        let broken = gateway.serve().await?;
        if broken > 0 {
            say(&format!("stopped; {broken} connections were still open and have been broken"));
        }
        Ok(())
    })
}

pub(crate) fn replica(arguments: &serve_args::Replica) -> anyhow::Result<()> {
    let mut options = Options::new(&arguments.model, Profile::find(&arguments.engine)?);
    options.listen = arguments.listen;
    options.served_name.clone_from(&arguments.served_name);
    if let Some(version) = &arguments.report_version {
        options.version.clone_from(version);
    }
    options.speed_up = arguments.speed_up;
    options.start_up = arguments.startup.clone();
    options.natural_length = arguments.natural_length;
    options.max_model_len = arguments.max_model_len;
    options.shutdown_timeout = Duration::from_nanos(arguments.shutdown_timeout.as_nanos());
    options.faults.clone_from(&arguments.faults);
    if let Some(folder) = &arguments.fake_gpu {
        if !folder.exists() {
            let (count, total_mib) = FAKE_GPUS;
            fake_gpu::create(folder, count, total_mib)?;
        }
        options.gpu = Some(GpuClaim {
            folder: folder.clone(),
            gpus: arguments.gpu.clone(),
            memory_mib: arguments.gpu_memory,
        });
    }
    serve(async {
        let source = options.profile.source.clone();
        let server = Server::start(options).await?;
        say(&format!("engine: {source}"));
        say(&format!("listening on http://{}", server.address()));
        match server.serve(say).await? {
            Ended::Terminated { aborted: 0 } => Ok(()),
            Ended::Terminated { aborted } => {
                say(&format!("stopped; {aborted} requests in flight were aborted"));
                Ok(())
            }
            Ended::Crashed(reason) => Err(anyhow::anyhow!("{reason}")),
        }
    })
}

/// Runs on a runtime of its own, with as many open files as the system allows.
fn serve(server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Each stream through a gateway takes two descriptors; the usual soft limit of 1024 is for programs that use `select`.
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, fewer connections are served.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start the async runtime")?;
    let done = runtime.block_on(server);
    // What still runs is not waited for: the server has said that it has ended.
    runtime.shutdown_background();
    done
}
