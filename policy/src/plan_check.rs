//! Is the plan one that can be carried out? Asked before anything is touched.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::strategy::Layout;
use crate::{
    Action, Approve, AtDeadline, CompareSpec, EvaluateOn, Figure, GuardAction, Limits, Plan, PlanError,
    ReplicaSpec, SCHEMA, Span, Step, StepLimits, StrategySpec, Time,
};

/// More replicas than any chassis has GPUs, and few enough for every index to be a `ReplicaId`.
const REPLICAS_MAX: usize = 4_096;

/// A counter of tries beyond this is a typing error, and would make "ends or holds" a matter of days.
const TRIES_MAX: u32 = 10_000;

impl Limits {
    pub(crate) fn exhausted(&self, tries: u32, began: Time, now: Time) -> bool {
        self.attempts.is_some_and(|attempts| tries >= attempts)
            || self.within.is_some_and(|within| now.since(began) >= within)
    }
}

impl StepLimits {
    pub(crate) fn of(&self, action: &Action) -> Limits {
        match action {
            Action::Observe => self.observe,
            Action::TakeOut { .. } => self.take_out,
            Action::ProbeInFlight => self.in_flight,
            Action::CutInFlight => self.cut,
            Action::Stop { .. } => self.stop,
            Action::ProbeGpu { .. } => self.gpu_free,
            Action::Start { .. } => self.start,
            Action::ProbeHealth => self.health,
            Action::ProbeFingerprint { .. } => self.identity,
            Action::SmokePrompt => self.smoke,
            Action::WarmUp { .. } => self.warm_up,
            Action::Admit { .. } => self.admit,
            Action::Swap { .. } => self.swap,
            Action::Evaluate { .. } => self.evaluate,
            Action::MeasureLoad => self.load,
        }
    }

    /// `None` for the steps that have times of their own.
    pub(crate) fn of_step(&self, step: Step) -> Option<Limits> {
        match step {
            Step::Gate
            | Step::AllReady
            | Step::AwaitZero
            | Step::AllStopped
            | Step::AllChecked
            | Step::Soak
            | Step::Compare => None,
            Step::TakeOut => Some(self.take_out),
            Step::Stop => Some(self.stop),
            Step::GpuFree(_) => Some(self.gpu_free),
            Step::Start(_) => Some(self.start),
            Step::Health => Some(self.health),
            Step::Identity(_) => Some(self.identity),
            Step::Smoke => Some(self.smoke),
            Step::WarmUp => Some(self.warm_up),
            Step::Swap(_) => Some(self.swap),
            Step::Evaluate { .. } => Some(self.evaluate),
            // The steps up are asked for as the admission is; each has its own tries.
            Step::Admit => Some(self.admit),
            Step::Ramp => {
                Some(Limits { within: None, attempts: Some(self.admit.attempts.unwrap_or(5)), ..self.admit })
            }
        }
    }

    pub(crate) fn named(&self) -> [(&'static str, Limits); 15] {
        [
            ("observe", self.observe),
            ("take_out", self.take_out),
            ("in_flight", self.in_flight),
            ("cut", self.cut),
            ("stop", self.stop),
            ("gpu_free", self.gpu_free),
            ("start", self.start),
            ("health", self.health),
            ("identity", self.identity),
            ("smoke", self.smoke),
            ("warm_up", self.warm_up),
            ("admit", self.admit),
            ("swap", self.swap),
            ("evaluate", self.evaluate),
            ("load", self.load),
        ]
    }
}

fn check(good: bool, key: impl Display, found: impl Display, expected: &str) -> Result<(), PlanError> {
    if good {
        return Ok(());
    }
    Err(PlanError::Value { key: key.to_string(), found: found.to_string(), expected: expected.to_owned() })
}

fn positive(key: &str, span: Span) -> Result<(), PlanError> {
    check(!span.is_zero(), key, span, "a duration above zero")
}

impl Plan {
    /// Whether the plan can be carried out.
    ///
    /// # Errors
    /// The first thing that is wrong: its key, what was expected, what to do.
    pub fn validate(&self) -> Result<(), PlanError> {
        if self.schema != SCHEMA {
            return Err(PlanError::Schema { found: self.schema.clone() });
        }
        self.check_fleet()?;
        self.check_windows()?;
        self.check_rollout()?;
        self.check_steps()?;
        self.check_gate()?;
        self.check_guards()
    }

    fn check_fleet(&self) -> Result<(), PlanError> {
        let (count, places) = (self.count(), self.replicas.len());
        // Alone it can be moved where others serve meanwhile, or nobody has to.
        let alone = matches!(self.strategy, StrategySpec::Recreate { .. })
            || matches!(self.strategy.layout(), Layout::Surge | Layout::Switch | Layout::Pairs);
        if count == 1 && !alone {
            return Err(PlanError::SingleReplica);
        }
        if count == 0 || places > REPLICAS_MAX {
            return Err(PlanError::ReplicaCount {
                count: if count == 0 { 0 } else { places },
                most: REPLICAS_MAX,
            });
        }
        // TOML has no larger integers.
        check(
            i64::try_from(self.seed).is_ok(),
            "seed",
            self.seed,
            "at most 9223372036854775807, so that TOML can hold it",
        )?;
        check(!self.from.name.is_empty(), "from.name", "empty", "the old version's name")?;
        check(!self.to.name.is_empty(), "to.name", "empty", "the new version's name")?;
        let mut names = BTreeSet::new();
        let mut gpus = BTreeSet::new();
        for (index, replica) in self.replicas.iter().enumerate() {
            let name = &replica.name;
            check(!name.is_empty(), format!("replicas[{index}].name"), "empty", "a name")?;
            check(
                names.insert(name),
                format!("replicas[{index}].name"),
                name,
                "a name no other replica has",
            )?;
            if let Some(beside) = &replica.beside {
                self.check_twin(index, replica, beside)?;
                continue;
            }
            for gpu in &replica.gpus {
                check(
                    gpus.insert(gpu),
                    format!("replicas[{index}].gpus"),
                    gpu,
                    "GPUs no other replica runs on",
                )?;
            }
        }
        self.check_strategy()?;
        self.check_names("only", &self.only)?;
        self.check_names("strategy.order", self.strategy.order())?;
        self.check_names("strategy.canary", self.strategy.canary().map_or(&[], std::slice::from_ref))?;
        let first: &[String] = if let StrategySpec::Halves { first } = &self.strategy { first } else { &[] };
        self.check_names("strategy.first", first)?;
        let order = self.strategy.order().iter().map(|name| ("strategy.order", name));
        let canary = self.strategy.canary().map(|name| ("strategy.canary", name));
        let first = first.iter().map(|name| ("strategy.first", name));
        for (key, name) in order.chain(canary).chain(first) {
            let moved = self.only.is_empty() || self.only.contains(name);
            check(moved, key, name, "names that `only` has too, as no other replica is moved")?;
        }
        if let Some(soak) = self.strategy.canary_soak() {
            positive("strategy.canary_soak", soak)?;
        }
        if let Some(within) = self.strategy.compare_within() {
            positive("strategy.compare_within", within)?;
        }
        if let Some(spec) = self.strategy.measured_comparison() {
            check_comparison(&spec)?;
        }
        check(
            !self.is_drill() || self.from.name == self.to.name,
            "to.name",
            &self.to.name,
            "the name in from.name, as target is `same`: a restart drill changes no version",
        )
    }

    fn check_strategy(&self) -> Result<(), PlanError> {
        self.check_places()?;
        let count = self.count();
        if self.strategy.nobody_first() {
            let key = "rollout.quality.replicas";
            let first = self.rollout.quality.as_ref().is_some_and(|spec| spec.replicas == EvaluateOn::First);
            let waits = !matches!(self.strategy, StrategySpec::Recreate { .. });
            check(!first || waits, key, "first", "`each`, as with `recreate` nobody waits for the first")?;
        }
        match &self.strategy {
            StrategySpec::BlueGreen { .. } => {
                check(
                    self.only.is_empty(),
                    "only",
                    self.only.join(", "),
                    "nothing, as blue-green switches all at once: leave it out, or take `side_by_side` or `rolling`",
                )?;
                self.check_nobody_first()?;
            }
            StrategySpec::Halves { .. } => {
                self.check_nobody_first()?;
                let (found, most) = (self.unavailable_max(), count - 1);
                check(
                    (1..=most).contains(&found),
                    "strategy.first",
                    format!("a half of {found} of {count} replicas"),
                    "halves that each leave somebody to serve: name fewer in strategy.first, or take `rolling`",
                )?;
            }
            StrategySpec::SideBySide { pairs_at_once, .. } => {
                check(
                    (1..=count).contains(&usize::from(*pairs_at_once)),
                    "strategy.pairs_at_once",
                    pairs_at_once,
                    "1 to the number of pairs",
                )?;
            }
            StrategySpec::Surge { max_unavailable, .. } => {
                let found = usize::from(*max_unavailable);
                check(
                    found < count,
                    "strategy.max_unavailable",
                    found,
                    "0, or fewer than the replicas that are not spare, so that somebody serves",
                )?;
            }
            StrategySpec::Rolling { max_unavailable, .. }
            | StrategySpec::Canary { max_unavailable, .. }
            | StrategySpec::Swap { max_unavailable, .. } => {
                let found = usize::from(*max_unavailable);
                if found == 0 || found >= count {
                    return Err(PlanError::MaxUnavailable { found, replicas: count });
                }
            }
            StrategySpec::Recreate { accept_downtime, at_once, .. } => {
                check(
                    *accept_downtime,
                    "strategy.accept_downtime",
                    accept_downtime,
                    "true, as nobody may serve for a while: say so, or take strategy.kind `rolling`",
                )?;
                let together = at_once.map_or(count, usize::from);
                check(
                    (1..=count).contains(&together),
                    "strategy.at_once",
                    together,
                    "1 to the number of replicas; leave it out for all",
                )?;
                check(
                    self.rollout.approve != Approve::First || together < count,
                    "rollout.approve",
                    "first",
                    "`each` (asks before each chunk) or `none`, as all go together and nobody is first",
                )?;
            }
        }
        Ok(())
    }

    fn check_nobody_first(&self) -> Result<(), PlanError> {
        check(
            self.rollout.approve != Approve::First,
            "rollout.approve",
            "first",
            "`each` (asks before they begin together) or `none`, as many go together and nobody is first",
        )
    }

    /// A twin names a replica that is there itself, and brings no GPUs of its own.
    fn check_twin(&self, index: usize, twin: &ReplicaSpec, beside: &String) -> Result<(), PlanError> {
        let key = format!("replicas[{index}].beside");
        let Some(other) = self.replicas.iter().find(|other| other.name == *beside) else {
            return check(false, key, beside, "the name of a replica in the plan");
        };
        check(!other.is_spare(), &key, beside, "a replica that is not spare itself")?;
        let twins = self.replicas.iter().filter(|other| other.beside.as_ref() == Some(beside)).count();
        check(twins == 1, &key, beside, "one twin a replica")?;
        check(
            twin.gpus.is_empty() || twin.gpus == other.gpus,
            format!("replicas[{index}].gpus"),
            format!("{:?}", twin.gpus),
            "the GPUs of the replica it is beside; leave them out",
        )
    }

    /// Are there the places that the strategy needs, and no others?
    fn check_places(&self) -> Result<(), PlanError> {
        let twins = self.replicas.iter().filter(|replica| replica.beside.is_some()).count();
        let spares = self.replicas.iter().filter(|replica| replica.is_spare()).count() - twins;
        let layout = self.strategy.layout();
        let found = format!("{spares} spare and {twins} beside another");
        let expected = match layout {
            Layout::InPlace | Layout::Halves if spares + twins > 0 => {
                "none of these with this strategy: leave them out, or take strategy.kind `surge`, `blue_green` (spare = true) or `side_by_side` (beside = \"NAME\")"
            }
            Layout::Surge if spares == 0 || twins > 0 => {
                "with `surge` at least one with spare = true and none beside another: add a place with free GPUs, or take `rolling`"
            }
            Layout::Switch if spares != self.count() || twins > 0 => {
                "with `blue_green` as many with spare = true as without, and none beside another: add places, or take `halves`, `surge` or `rolling`"
            }
            Layout::Pairs if spares > 0 || twins != self.count() => {
                "with `side_by_side` one beside each replica (beside = \"NAME\") and no others: add them, or take `rolling`"
            }
            _ => "",
        };
        check(expected.is_empty(), "replicas", found, expected)?;
        let named =
            |name: &&String| self.replicas.iter().any(|other| other.is_spare() && other.name == **name);
        for (key, names) in [("only", &self.only[..]), ("strategy.order", self.strategy.order())] {
            if let Some(name) = names.iter().find(named) {
                let expected = "names of replicas that are not spare: spares follow by themselves";
                check(false, key, name, expected)?;
            }
        }
        let swap = matches!(self.strategy, StrategySpec::Swap { .. });
        let drill = "`new`, as a drill restarts the process in its place: take `rolling`, or `recreate`";
        check(
            !self.is_drill() || (!swap && matches!(layout, Layout::InPlace | Layout::Halves)),
            "target",
            "same",
            drill,
        )
    }

    /// Names of replicas, each once.
    fn check_names(&self, key: &str, names: &[String]) -> Result<(), PlanError> {
        for (index, name) in names.iter().enumerate() {
            let known = self.replicas.iter().any(|replica| replica.name == *name);
            check(known, key, name, "names of replicas in the plan")?;
            check(!names[..index].contains(name), key, name, "each name once")?;
        }
        Ok(())
    }

    fn check_windows(&self) -> Result<(), PlanError> {
        let expected = self.rollout.move_expected;
        if !self.windows.is_empty() {
            check(
                !expected.is_zero(),
                "rollout.move_expected",
                expected,
                "how long one move takes, as there are windows",
            )?;
        }
        let mut last = Time::ZERO;
        for (index, window) in self.windows.iter().enumerate() {
            let key = format!("windows[{index}]");
            let shown = format!("{} to {}", window.opens, window.closes);
            check(window.opens < window.closes, &key, &shown, "an end after the beginning")?;
            check(window.opens >= last, &key, &shown, "windows in order, without overlap")?;
            check(
                window.opens + expected <= window.closes,
                &key,
                &shown,
                "room for one move (rollout.move_expected): lengthen or drop it",
            )?;
            if let Some(latest) = window.latest_start {
                let key = format!("{key}.latest_start");
                check(
                    window.opens <= latest && latest < window.closes,
                    &key,
                    latest,
                    "a time in the window",
                )?;
            }
            last = window.closes;
        }
        Ok(())
    }

    fn check_rollout(&self) -> Result<(), PlanError> {
        let rollout = &self.rollout;
        let drain = &rollout.drain;
        check((1..=100).contains(&rollout.bring_ups), "rollout.bring_ups", rollout.bring_ups, "1 to 100")?;
        check(rollout.revivals <= 100, "rollout.revivals", rollout.revivals, "0 to 100")?;
        let weight = rollout.admit_weight.unwrap_or(100);
        check((1..=100).contains(&weight), "rollout.admit_weight", weight, "1 to 100 percent")?;
        if let Some(ramp) = &rollout.ramp {
            check((1..=99).contains(&ramp.from), "rollout.ramp.from", ramp.from, "1 to 99 percent")?;
            check(ramp.steps >= 1, "rollout.ramp.steps", ramp.steps, "1 or more")?;
            check(
                !ramp.after(1).is_zero(),
                "rollout.ramp.over",
                ramp.over,
                "a duration above zero, or leave rollout.ramp out",
            )?;
            check(
                rollout.admit_weight.is_none(),
                "rollout.admit_weight",
                weight,
                "nothing, as rollout.ramp says with which weight a replica is admitted",
            )?;
        }
        if let Some(quality) = &rollout.quality {
            check(
                quality.out_of_rotation || quality.live,
                "rollout.quality",
                "neither out_of_rotation nor live",
                "one of them true, or no rollout.quality",
            )?;
        }
        positive("rollout.drain.timeout", drain.timeout)?;
        positive("rollout.drain.probe_every", drain.probe_every)?;
        positive("rollout.drain.believe_after", drain.believe_after)?;
        check(drain.zeroes >= 2, "rollout.drain.zeroes", drain.zeroes, "2 or more: one look proves nothing")?;
        check(drain.zeroes <= TRIES_MAX, "rollout.drain.zeroes", drain.zeroes, "at most 10000")?;
        if let AtDeadline::Extend { hard_limit, .. } = drain.at_deadline {
            check(
                hard_limit > drain.timeout,
                "rollout.drain.at_deadline.hard_limit",
                hard_limit,
                "longer than rollout.drain.timeout, as both count from the same instant",
            )?;
        }
        Ok(())
    }

    fn check_steps(&self) -> Result<(), PlanError> {
        let steps = &self.rollout.steps;
        for (name, limits) in steps.named() {
            let key = format!("rollout.steps.{name}");
            positive(&format!("{key}.every"), limits.every)?;
            positive(&format!("{key}.reply_within"), limits.reply_within)?;
            check(
                limits.attempts.is_some() || limits.within.is_some(),
                &key,
                "without a bound",
                "`attempts` or `within`, so that it ends",
            )?;
            if let Some(within) = limits.within {
                positive(&format!("{key}.within"), within)?;
            }
            if let Some(attempts) = limits.attempts {
                check(
                    (1..=TRIES_MAX).contains(&attempts),
                    format!("{key}.attempts"),
                    attempts,
                    "1 to 10000",
                )?;
            }
        }
        check(
            steps.cut.attempts.is_some(),
            "rollout.steps.cut",
            "without attempts",
            "`attempts`: the drain's time is over by then",
        )?;
        check(
            steps.stop.reply_within > self.rollout.stop_grace,
            "rollout.steps.stop.reply_within",
            steps.stop.reply_within,
            "longer than rollout.stop_grace, or the reply is never waited for",
        )
    }

    fn check_gate(&self) -> Result<(), PlanError> {
        let gate = &self.gate;
        positive("gate.recheck", gate.recheck)?;
        positive("gate.wait_max", gate.wait_max)?;
        check(
            gate.margin.is_finite() && gate.margin > -1.0,
            "gate.margin",
            gate.margin,
            "a share such as 0.1",
        )?;
        let mut last: Option<(u16, f64)> = None;
        for row in &gate.capacity {
            let good = row.rate.is_finite() && row.rate >= 0.0;
            check(good, "gate.capacity.rate", row.rate, "requests a second, zero or more")?;
            let rises = last.is_none_or(|(serving, rate)| row.serving > serving && row.rate >= rate);
            check(
                rises,
                "gate.capacity",
                row.serving,
                "rows in rising order of `serving`, with rates that do not fall",
            )?;
            last = Some((row.serving, row.rate));
        }
        Ok(())
    }

    fn check_guards(&self) -> Result<(), PlanError> {
        for (index, guard) in self.guards.iter().enumerate() {
            let key = format!("guards[{index}]");
            let good = guard.limit.is_finite() && guard.limit >= 0.0;
            check(good, format!("{key}.limit"), guard.limit, "a number, zero or more")?;
            positive(&format!("{key}.sustained"), guard.sustained)?;
            let clear = guard.action != GuardAction::RollBack || guard.figure == Figure::ErrorRate;
            check(
                clear,
                format!("{key}.action"),
                "roll_back",
                "hold: only errors are clear enough to roll back by themselves",
            )?;
        }
        Ok(())
    }
}

fn check_comparison(spec: &CompareSpec) -> Result<(), PlanError> {
    for (key, ratio) in [("ttft_ratio", spec.ttft_ratio), ("tpot_ratio", spec.tpot_ratio)] {
        check(
            ratio.is_finite() && ratio > 0.0,
            format!("strategy.compare.{key}"),
            ratio,
            "a positive number: 1.2 declares that the new version may take 1.2 times as long",
        )?;
    }
    check(
        (0.0..1.0).contains(&spec.error_margin),
        "strategy.compare.error_margin",
        spec.error_margin,
        "0 to below 1: the share of failures by which the new version may be worse",
    )?;
    check(
        spec.false_alarm > 0.0 && spec.false_alarm <= 0.5,
        "strategy.compare.false_alarm",
        spec.false_alarm,
        "above 0, at most 0.5: the chance that a new version which is as declared is called worse",
    )?;
    check(spec.blocks_min > 0, "strategy.compare.blocks_min", spec.blocks_min, "at least 1")
}
