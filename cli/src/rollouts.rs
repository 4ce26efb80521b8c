//! `slackwater history`: what was run with a deployment.

use anyhow::Context;
use serde::Serialize;
use slackwater_exec::journal::{Journal, Listed};
use slackwater_exec::say::Sayer;
use slackwater_policy::{Plan, Record, RolloutReport, Time, fold};

use crate::output;
use crate::run::directory;
use crate::run_args::History;

#[derive(Serialize)]
struct Told {
    rollout: i64,
    began_at: Time,
    from: String,
    to: String,
    report: RolloutReport,
}

pub(crate) fn history(arguments: &History) -> anyhow::Result<()> {
    let journal = Journal::read(&directory(&arguments.control.deployment)?)?;
    match arguments.rollout {
        Some(wanted) => {
            let listed = journal.rollouts()?.into_iter().find(|listed| listed.id == wanted);
            let listed = listed.with_context(|| format!("there is no rollout {wanted} in this journal"))?;
            one(&listed.plan()?, &journal.records(wanted)?, arguments.json)
        }
        None => all(&journal, arguments.json),
    }
}

fn one(plan: &Plan, records: &[Record], json: bool) -> anyhow::Result<()> {
    let mut sayer = Sayer::default();
    for record in records {
        if json {
            output::line(&serde_json::to_string(record).context("a record can't be written as JSON")?)?;
        } else if let Some(line) = sayer.line(record, plan) {
            output::line(&format!("{} {line}", record.at))?;
        }
    }
    Ok(())
}

fn all(journal: &Journal, json: bool) -> anyhow::Result<()> {
    let mut told = Vec::new();
    for listed in journal.rollouts()? {
        let Listed { id, began_at, .. } = listed;
        let plan = listed.plan()?;
        let report = fold(&plan, &journal.records(id)?);
        told.push(Told { rollout: id, began_at, from: plan.from.name, to: plan.to.name, report });
    }
    if json {
        return output::json(&told);
    }
    for Told { rollout, began_at, from, to, report } in &told {
        let outcome = report.outcome.map_or("not over".to_owned(), |outcome| format!("{outcome:?}"));
        let lasted = match (report.started_at, report.last_at) {
            (Some(start), Some(last)) => last.since(start).to_string(),
            _ => "–".to_owned(),
        };
        output::line(&format!(
            "{rollout}  {began_at}  {from} to {to}: {outcome}, {} moves, {lasted}, {} below N, {} cut",
            report.moves.len(),
            report.time_below_n,
            report.cut
        ))?;
    }
    Ok(())
}
