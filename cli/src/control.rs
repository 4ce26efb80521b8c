//! `slackwater status`, `pause` and the other orders, from another terminal or after a crash; `slackwater deployment`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use slackwater_exec::balancer::Nginx;
use slackwater_exec::control::{self, ControlError, Order, Request, Snapshot};
use slackwater_exec::deployment::{BalancerSpec, Deployment};
use slackwater_exec::session;
use slackwater_policy::Phase;

use crate::output;
use crate::run::{directory, runtime};
use crate::run_args::{Control, DeploymentCommand, Status};
use crate::run_view::table;

pub(crate) fn status(arguments: &Status) -> anyhow::Result<()> {
    let directory = directory(&arguments.control.deployment)?;
    runtime()?.block_on(async {
        loop {
            let snapshot = snapshot(&directory).await?;
            if arguments.json {
                output::json(&snapshot)?;
            } else {
                output::line(table(&snapshot).trim_end())?;
                if snapshot.pid.is_none() && !matches!(snapshot.status.phase, Phase::Ended { .. }) {
                    output::line("no executor is running; go on with `slackwater run --resume`")?;
                }
            }
            let over = snapshot.pid.is_none() || matches!(snapshot.status.phase, Phase::Ended { .. });
            if !arguments.watch || over {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

/// From the executor, or from the journal where none is running.
async fn snapshot(directory: &Path) -> anyhow::Result<Snapshot> {
    match control::ask(directory, Request::Status).await {
        Ok(snapshot) => Ok(snapshot),
        Err(ControlError::Nobody { .. }) => Ok(session::last(directory)?),
        Err(other) => Err(other.into()),
    }
}

pub(crate) fn order(arguments: &Control, order: Order) -> anyhow::Result<()> {
    let directory = directory(&arguments.deployment)?;
    let asked = runtime()?.block_on(control::ask(&directory, Request::Order(order)));
    let snapshot = asked.map_err(|error| match error {
        ControlError::Nobody { .. } => {
            anyhow::anyhow!("{error}; begin it again with `slackwater run --resume`, then give the order")
        }
        other => other.into(),
    })?;
    output::line(table(&snapshot).trim_end())
}

pub(crate) fn deployment(command: &DeploymentCommand) -> anyhow::Result<()> {
    match command {
        DeploymentCommand::Schema => output::json(&Deployment::json_schema()),
        DeploymentCommand::Nginx { deployment: path } => {
            let deployment = Deployment::load(path).with_context(|| path.display().to_string())?;
            let BalancerSpec::Nginx(spec) = &deployment.balancer else {
                anyhow::bail!("balancer.kind of {} is not nginx", path.display());
            };
            let keep = deployment.directory.join("kept");
            let nginx = Nginx::new(spec.clone(), deployment.replicas.clone(), keep);
            output::line(nginx.first_include().trim_end())
        }
    }
}
