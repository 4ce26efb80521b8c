//! What of a rollout goes into its canonical form.

use super::{Hold, Move, Outstanding, Replica, Rollout, Run, Survey};
use crate::canonical::{Canonical, Form};
use crate::{CommandId, HoldReason, Time};

impl Rollout {
    /// What determines this rollout's future. `on_their_way` are the ids of commands whose replies may still come: of those it counts which
    /// are still waited for.
    ///
    /// For whoever asks whether two rollouts are in the same place, an exhaustive exploration above all.
    pub fn canonical(&self, on_their_way: &[CommandId]) -> Canonical {
        let Rollout {
            plan,
            now,
            run,
            goal,
            surveying,
            replicas,
            moves,
            timers,
            outgoing,
            outstanding,
            notes: _,
            commands_issued: _,
            approved,
            upgrades_done,
            quality_passed,
            evaluated,
            canary_passed,
            verdict,
            comparison,
            compare_from,
            undecided,
            window_waived_until,
            guards,
            load: _,
            stale_replies: _,
            clock_went_back: _,
            safety,
        } = self;
        let ids = outstanding.keys().copied().chain(safety.open_ids()).collect();
        let mut form = Form::new(plan, *now, ids);
        run.write(&mut form);
        form.put((goal, surveying, approved, quality_passed, evaluated, canary_passed, verdict, undecided));
        form.put(comparison.is_some());
        if let Some(comparison) = comparison {
            comparison.write(&mut form);
            form.until(*compare_from);
        }
        // It is only asked whether there was any.
        form.put(*upgrades_done > 0);
        form.until(*window_waived_until);
        for replica in replicas {
            replica.write(plan, &mut form);
        }
        form.put(moves.len());
        for (id, mv) in moves {
            form.put(id);
            mv.write(plan, &mut form);
        }
        timers.write(&mut form);
        form.put(outgoing.len());
        for command in outgoing {
            form.id(command.id);
            form.put((command.replica, &command.action));
        }
        form.put(outstanding.len());
        for (id, Outstanding { owner, survey, action }) in outstanding {
            form.id(*id);
            form.put((owner, survey, action));
        }
        for id in on_their_way {
            let waited_for = outstanding.contains_key(id);
            form.put(waited_for);
            if waited_for {
                form.id(*id);
            }
        }
        for guard in guards {
            guard.write(&mut form);
        }
        for window in &plan.windows {
            form.until(window.opens);
            form.until(window.closes);
        }
        safety.write(&mut form);
        form.finish_form()
    }
}

impl Run {
    fn write(&self, form: &mut Form) {
        form.put(std::mem::discriminant(self));
        match self {
            Run::Hold(Hold { reason, since: _, until, settled }) => {
                reason.write(form);
                form.put(settled);
                form.until(until.unwrap_or(Time::MAX));
            }
            Run::Ended(outcome) => form.put(outcome),
            Run::Waiting | Run::Go | Run::Abort => {}
        }
    }
}

impl HoldReason {
    /// What was seen is only told.
    fn write(&self, form: &mut Form) {
        form.put(std::mem::discriminant(self));
        form.put(self.replica());
    }
}

impl Replica {
    fn write(&self, plan: &crate::Plan, form: &mut Form) {
        let Replica {
            state,
            running,
            dead,
            traffic,
            seen_serving,
            restarted,
            survey,
            moves_done,
            kept_until,
            trouble: _,
        } = self;
        form.put((state, running, dead, traffic, seen_serving, restarted, moves_done));
        form.put(kept_until.is_some());
        form.until(kept_until.unwrap_or(Time::ZERO));
        form.put(survey.is_some());
        if let Some(Survey { tries, since }) = survey {
            form.put(tries);
            form.since(plan.rollout.steps.observe.within.map(|_| *since));
        }
    }
}

impl Move {
    fn write(&self, plan: &crate::Plan, form: &mut Form) {
        let Move {
            target,
            purpose,
            canary,
            soak,
            leaves,
            light,
            ramped,
            steps,
            at,
            step_began,
            tries,
            bring_ups,
            was_serving,
            routed,
            look_again,
            stopped,
            drain,
            last: _,
        } = self;
        form.put((target, purpose, canary, soak, steps, at, tries, bring_ups, was_serving, stopped));
        form.put((leaves, light, ramped, routed, look_again));
        let within = plan.rollout.steps.of_step(self.step()).and_then(|limits| limits.within);
        form.since(within.map(|_| *step_began));
        drain.write(form);
    }
}
