//! Each safety condition fires: the checker is fed what a faulty policy would do, one step away from what a right one does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{Exception, Phase, ReplicaState, Window};

const FIRST: ReplicaId = ReplicaId(0);

/// A checker that has seen every replica serve, and what it is told next.
struct Fed {
    safety: Safety,
    now: Time,
    commands: u64,
}

impl Fed {
    fn new(change: impl Fn(&mut Plan)) -> Fed {
        let mut plan = Plan::rolling("old", "new", ["a", "b", "c"]);
        change(&mut plan);
        let mut fed = Fed { safety: Safety::new(Arc::new(plan)), now: Time::from_secs(1_000), commands: 0 };
        for id in 0..3 {
            fed.look(ReplicaId(id), true);
        }
        for id in (3..).take(fed.safety.replicas.len() - 3) {
            fed.look_at_nothing(ReplicaId(id));
        }
        fed
    }

    fn look_at_nothing(&mut self, replica: ReplicaId) {
        let (version, undo_ready) = (None, false);
        let seen = Observed { in_rotation: false, process: false, healthy: false, version, undo_ready };
        self.told(replica, Action::Observe, Reply::Observed(seen));
    }

    /// Brings an empty place up in the new version, to just before its admission.
    fn comes_up(&mut self, replica: u16) {
        let replica = ReplicaId(replica);
        let version = VersionRef::To;
        self.told(replica, Action::ProbeGpu { version }, Reply::GpuFree);
        self.told(replica, Action::Start { version }, Reply::Started);
        self.answers(replica);
    }

    /// Healthy, the new version, and a right answer.
    fn answers(&mut self, replica: ReplicaId) {
        let expect = VersionRef::To;
        self.told(replica, Action::ProbeHealth, Reply::Healthy);
        self.told(replica, Action::ProbeFingerprint { expect }, Reply::Fingerprint { seen: Some(expect) });
        self.told(replica, Action::SmokePrompt, Reply::SmokeAnswered);
    }

    fn admitted(&mut self, replica: u16) {
        self.told(ReplicaId(replica), Action::Admit { weight: None }, Reply::Admitted);
    }

    fn take_out_of(&mut self, replica: u16) {
        self.told(ReplicaId(replica), Action::TakeOut { toward: VersionRef::To }, Reply::Out);
    }

    fn look(&mut self, replica: ReplicaId, undo_ready: bool) {
        let version = Some(VersionRef::From);
        let seen = Observed { in_rotation: true, process: true, healthy: true, version, undo_ready };
        self.told(replica, Action::Observe, Reply::Observed(seen));
    }

    fn issue(&mut self, replica: ReplicaId, action: Action) {
        self.commands += 1;
        self.safety
            .issue(self.now, &Command { id: CommandId(self.commands), replica: Some(replica), action });
    }

    fn told(&mut self, replica: ReplicaId, action: Action, reply: Reply) {
        self.issue(replica, action);
        self.safety.saw(self.now, &Event::Outcome { id: CommandId(self.commands), outcome: reply });
    }

    fn take_out(&mut self) {
        self.told(FIRST, Action::TakeOut { toward: VersionRef::To }, Reply::Out);
    }

    fn zero(&mut self, balancer: u32, engine: u32) {
        let reply = Reply::InFlight { balancer: Some(balancer), engine: Some(engine) };
        self.told(FIRST, Action::ProbeInFlight, reply);
    }

    fn stop(&mut self) {
        self.told(FIRST, Action::Stop { grace: Span::ZERO }, Reply::Stopped { cut: 0 });
    }

    fn drained_and_stopped(&mut self) {
        self.take_out();
        self.zero(0, 0);
        self.zero(0, 0);
        self.stop();
    }

    fn gpu_free(&mut self, version: VersionRef) {
        self.told(FIRST, Action::ProbeGpu { version }, Reply::GpuFree);
    }

    fn start(&mut self) {
        self.told(FIRST, Action::Start { version: VersionRef::To }, Reply::Started);
    }

    fn gpu_free_and_start(&mut self) {
        self.gpu_free(VersionRef::To);
        self.start();
    }

    /// The next call breaks this condition.
    #[track_caller]
    fn fires(mut self, condition: u8, next: impl FnOnce(&mut Fed)) {
        let panic =
            catch_unwind(AssertUnwindSafe(|| next(&mut self))).expect_err("the condition does not fire");
        let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(message.starts_with(&format!("safety condition {condition}: ")), "{message}");
        assert!(message.contains("replica ") && message.contains("seen: View"), "{message}");
    }
}

fn down(fed: &mut Fed, replica: u16) {
    let event = Event::ReplicaDown { replica: ReplicaId(replica), reason: "died".to_owned() };
    fed.safety.saw(fed.now, &event);
}

#[test]
fn condition_1_not_enough_others() {
    let mut fed = Fed::new(|_| {});
    down(&mut fed, 1);
    fed.fires(1, Fed::take_out);
}

#[test]
fn condition_1_lets_one_that_is_down_be_moved() {
    let mut fed = Fed::new(|_| {});
    down(&mut fed, 0);
    fed.take_out();
}

#[test]
fn condition_2_the_last_one() {
    let mut fed = Fed::new(|_| {});
    down(&mut fed, 1);
    down(&mut fed, 2);
    fed.fires(2, Fed::take_out);
}

#[test]
fn conditions_1_and_2_where_downtime_is_accepted() {
    let chunks = |at_once| {
        move |plan: &mut Plan| {
            plan.strategy =
                crate::StrategySpec::Recreate { accept_downtime: true, at_once, order: Vec::new() };
        }
    };
    let mut fed = Fed::new(chunks(None));
    down(&mut fed, 1);
    down(&mut fed, 2);
    fed.take_out();
    let mut fed = Fed::new(chunks(Some(2)));
    down(&mut fed, 1);
    fed.take_out();
    let mut fed = Fed::new(chunks(Some(2)));
    down(&mut fed, 1);
    down(&mut fed, 2);
    fed.fires(1, Fed::take_out);
}

#[test]
fn condition_3_a_stop_with_requests_in_flight() {
    Fed::new(|_| {}).fires(3, Fed::stop);
    let mut fed = Fed::new(|_| {});
    fed.take_out();
    fed.zero(0, 0);
    fed.fires(3, Fed::stop);
    let mut fed = Fed::new(|_| {});
    fed.take_out();
    fed.zero(0, 0);
    fed.zero(0, 1);
    fed.zero(0, 0);
    fed.fires(3, Fed::stop);
}

#[test]
fn condition_3_a_cut_before_its_time_or_without_the_plans_word() {
    let cut = |fed: &mut Fed| fed.issue(FIRST, Action::CutInFlight);
    let mut fed = Fed::new(|_| {});
    fed.take_out();
    fed.now = fed.now + Span::from_secs(119);
    fed.fires(3, cut);
    let mut fed = Fed::new(|_| {});
    fed.take_out();
    fed.now = fed.now + Span::from_secs(120);
    cut(&mut fed);
    let mut fed = Fed::new(|plan| plan.rollout.drain.at_deadline = AtDeadline::Abort);
    fed.take_out();
    fed.now = fed.now + Span::from_secs(9_999);
    fed.fires(3, cut);
}

#[test]
fn condition_3_a_start_on_memory_that_is_not_free() {
    let mut fed = Fed::new(|_| {});
    fed.drained_and_stopped();
    fed.fires(3, Fed::start);
    let mut fed = Fed::new(|_| {});
    fed.drained_and_stopped();
    fed.gpu_free(VersionRef::From);
    fed.fires(3, Fed::start);
}

#[test]
fn condition_4_an_admission_too_early() {
    let checks = [
        (Action::ProbeHealth, Reply::Healthy),
        (
            Action::ProbeFingerprint { expect: VersionRef::To },
            Reply::Fingerprint { seen: Some(VersionRef::To) },
        ),
        (Action::SmokePrompt, Reply::SmokeAnswered),
    ];
    let admit = |fed: &mut Fed| fed.issue(FIRST, Action::Admit { weight: None });
    let started = || {
        let mut fed = Fed::new(|_| {});
        fed.drained_and_stopped();
        fed.gpu_free(VersionRef::To);
        fed.start();
        fed
    };
    for left_out in 0..checks.len() {
        let mut fed = started();
        for (index, (action, reply)) in checks.iter().enumerate() {
            if index != left_out {
                fed.told(FIRST, action.clone(), reply.clone());
            }
        }
        fed.fires(4, admit);
    }
    let mut fed = started();
    for (action, reply) in checks.clone() {
        fed.told(FIRST, action, reply);
    }
    down(&mut fed, 0);
    fed.fires(4, admit);
    let mut fed = started();
    for (action, reply) in checks.clone() {
        fed.told(FIRST, action, reply);
    }
    let wrong = Reply::Fingerprint { seen: Some(VersionRef::From) };
    fed.told(FIRST, Action::ProbeFingerprint { expect: VersionRef::To }, wrong);
    fed.fires(4, admit);
    let mut fed = started();
    for (action, reply) in checks {
        fed.told(FIRST, action, reply);
    }
    admit(&mut fed);
}

#[test]
fn condition_5_no_way_back_or_no_window() {
    let mut fed = Fed::new(|_| {});
    fed.look(FIRST, false);
    fed.fires(5, Fed::take_out);
    let windowed = |plan: &mut Plan| {
        plan.rollout.move_expected = Span::from_secs(60);
        plan.windows = vec![Window::new(Time::from_secs(900), Time::from_secs(1_059))];
    };
    Fed::new(windowed).fires(5, Fed::take_out);
    let mut waived = Fed::new(windowed);
    waived.safety.saw(waived.now, &Event::Operator(Operator::Resume));
    waived.take_out();
}

#[test]
fn condition_4_of_a_drill_wants_a_process_started_since() {
    let drill = |plan: &mut Plan| {
        plan.target = crate::Target::Same;
        plan.to.name.clone_from(&plan.from.name);
    };
    let answers = |fed: &mut Fed, expect: VersionRef| {
        fed.told(FIRST, Action::ProbeHealth, Reply::Healthy);
        // Whichever of the two names a driver reports: it is the same version.
        let seen = Some(VersionRef::To);
        fed.told(FIRST, Action::ProbeFingerprint { expect }, Reply::Fingerprint { seen });
        fed.told(FIRST, Action::SmokePrompt, Reply::SmokeAnswered);
    };
    let admit = |fed: &mut Fed| fed.issue(FIRST, Action::Admit { weight: None });
    let mut fed = Fed::new(drill);
    fed.take_out();
    answers(&mut fed, VersionRef::To);
    fed.fires(4, admit);
    // Put back as it is.
    let mut fed = Fed::new(drill);
    fed.take_out();
    answers(&mut fed, VersionRef::From);
    admit(&mut fed);
    for expect in [VersionRef::From, VersionRef::To] {
        let mut fed = Fed::new(drill);
        fed.drained_and_stopped();
        fed.gpu_free(VersionRef::To);
        fed.start();
        answers(&mut fed, expect);
        admit(&mut fed);
    }
}

#[test]
fn condition_5_of_a_canary_wants_its_soak() {
    let soaking = |seconds: u64, compare: bool| {
        let mut fed = Fed::new(|plan| {
            plan.strategy = crate::StrategySpec::Canary {
                canary: None,
                canary_soak: Span::from_secs(600),
                compare: compare.then_some(crate::Compare::Told),
                compare_within: Span::from_secs(60),
                max_unavailable: 1,
                order: Vec::new(),
            };
        });
        // The last one, so that the violation to come is the first one's.
        let last = ReplicaId(2);
        fed.told(last, Action::TakeOut { toward: VersionRef::To }, Reply::Out);
        let none = Reply::InFlight { balancer: Some(0), engine: Some(0) };
        fed.told(last, Action::ProbeInFlight, none.clone());
        fed.told(last, Action::ProbeInFlight, none);
        fed.told(last, Action::Stop { grace: Span::ZERO }, Reply::Stopped { cut: 0 });
        fed.told(last, Action::ProbeGpu { version: VersionRef::To }, Reply::GpuFree);
        fed.told(last, Action::Start { version: VersionRef::To }, Reply::Started);
        fed.told(last, Action::ProbeHealth, Reply::Healthy);
        let seen = Some(VersionRef::To);
        let expect = VersionRef::To;
        fed.told(last, Action::ProbeFingerprint { expect }, Reply::Fingerprint { seen });
        fed.told(last, Action::SmokePrompt, Reply::SmokeAnswered);
        fed.told(last, Action::Admit { weight: None }, Reply::Admitted);
        fed.now = fed.now + Span::from_secs(seconds);
        fed.safety.saw(fed.now, &Event::Tick);
        fed
    };
    soaking(599, false).fires(5, Fed::take_out);
    soaking(600, false).take_out();
    soaking(9_999, true).fires(5, Fed::take_out);
    let mut passed = soaking(600, true);
    passed.safety.saw(passed.now, &Event::Comparison { verdict: Verdict::Pass });
    passed.take_out();
    // Toward the old version nobody waits for it.
    let back = Action::TakeOut { toward: VersionRef::From };
    soaking(10, true).told(FIRST, back, Reply::Out);
}

fn spares(count: u16, strategy: crate::StrategySpec) -> impl Fn(&mut Plan) {
    move |plan| {
        for index in 0..count {
            let name = format!("s{index}");
            plan.replicas.push(crate::ReplicaSpec { name, gpus: Vec::new(), spare: true, beside: None });
        }
        plan.strategy = strategy.clone();
    }
}

fn surge() -> impl Fn(&mut Plan) {
    spares(1, crate::StrategySpec::Surge { max_unavailable: 0, order: Vec::new() })
}

fn blue_green() -> impl Fn(&mut Plan) {
    spares(3, crate::StrategySpec::BlueGreen { keep_old: Span::ZERO })
}

fn side_by_side(plan: &mut Plan) {
    let (keep_old, order) = (Span::ZERO, Vec::new());
    spares(3, crate::StrategySpec::SideBySide { pairs_at_once: 3, keep_old, order })(plan);
    for (twin, old) in [(3, "a"), (4, "b"), (5, "c")] {
        plan.replicas[twin].beside = Some(old.to_owned());
    }
}

#[test]
fn condition_1_of_a_surge_counts_spares_that_serve_and_keeps_n() {
    Fed::new(surge()).fires(1, Fed::take_out);
    let mut fed = Fed::new(surge());
    fed.comes_up(3);
    fed.admitted(3);
    fed.take_out();
    fed.fires(1, |fed| fed.take_out_of(1));
}

#[test]
fn condition_1_of_halves() {
    let halves = |plan: &mut Plan| plan.strategy = crate::StrategySpec::Halves { first: Vec::new() };
    let mut fed = Fed::new(halves);
    fed.take_out();
    fed.take_out_of(1);
    fed.fires(2, |fed| fed.take_out_of(2));
    let named = |plan: &mut Plan| {
        plan.replicas.push(crate::ReplicaSpec {
            name: "d".to_owned(),
            gpus: Vec::new(),
            spare: false,
            beside: None,
        });
        plan.strategy = crate::StrategySpec::Halves { first: vec!["a".to_owned(), "b".to_owned()] };
    };
    let mut fed = Fed::new(named);
    fed.look(ReplicaId(3), true);
    fed.take_out();
    fed.take_out_of(1);
    fed.fires(1, |fed| fed.take_out_of(2));
}

#[test]
fn condition_1_of_those_that_take_over() {
    // Its own twin, not another's.
    let mut fed = Fed::new(side_by_side);
    fed.comes_up(4);
    fed.admitted(4);
    fed.fires(1, Fed::take_out);
    let mut fed = Fed::new(side_by_side);
    fed.comes_up(3);
    fed.admitted(3);
    fed.take_out();
    // All of them.
    let switching = |all: bool| {
        let mut fed = Fed::new(blue_green());
        (3..6).for_each(|id| fed.comes_up(id));
        (3..5).for_each(|id| fed.admitted(id));
        if all {
            fed.admitted(5);
        }
        fed
    };
    switching(false).fires(1, Fed::take_out);
    let mut fed = switching(true);
    (0..3).for_each(|id| fed.take_out_of(id));
}

#[test]
fn condition_3_of_a_twin_and_of_a_swap() {
    let version = VersionRef::To;
    Fed::new(side_by_side).fires(3, |fed| fed.issue(ReplicaId(3), Action::Start { version }));
    let swap = |plan: &mut Plan| {
        plan.strategy = crate::StrategySpec::Swap { max_unavailable: 1, order: Vec::new() };
    };
    let mut fed = Fed::new(swap);
    fed.take_out();
    fed.zero(0, 0);
    fed.fires(3, |fed| fed.issue(FIRST, Action::Swap { version }));
    let swapped = || {
        let mut fed = Fed::new(swap);
        fed.take_out();
        fed.zero(0, 0);
        fed.zero(0, 0);
        fed.told(FIRST, Action::Swap { version }, Reply::Swapped);
        fed
    };
    // All is asked again.
    swapped().fires(4, |fed| fed.admitted(0));
    let mut wrong = swapped();
    let seen = Some(VersionRef::From);
    wrong.answers(FIRST);
    wrong.told(FIRST, Action::ProbeFingerprint { expect: VersionRef::From }, Reply::Fingerprint { seen });
    wrong.fires(4, |fed| fed.admitted(0));
    let mut right = swapped();
    right.answers(FIRST);
    right.admitted(0);
}

#[test]
fn condition_4_of_blue_green_waits_for_all() {
    let mut fed = Fed::new(blue_green());
    (3..5).for_each(|id| fed.comes_up(id));
    fed.fires(4, |fed| fed.admitted(3));
    let mut fed = Fed::new(blue_green());
    (3..6).for_each(|id| fed.comes_up(id));
    fed.admitted(3);
    // From then on one that died comes back alone.
    down(&mut fed, 4);
    fed.admitted(5);
}

#[test]
fn condition_4_wants_the_evaluation() {
    let judged = |replicas| {
        move |plan: &mut Plan| {
            let (out_of_rotation, live, command) = (true, false, Vec::new());
            plan.rollout.quality = Some(crate::QualitySpec { out_of_rotation, live, replicas, command });
        }
    };
    let up = |replicas, passed: Option<bool>| {
        let mut fed = Fed::new(judged(replicas));
        fed.drained_and_stopped();
        fed.gpu_free_and_start();
        fed.answers(FIRST);
        if let Some(passed) = passed {
            let said = String::new();
            fed.told(FIRST, Action::Evaluate { live: false }, Reply::Evaluated { passed, said });
        }
        fed
    };
    up(EvaluateOn::Each, None).fires(4, |fed| fed.admitted(0));
    up(EvaluateOn::First, Some(false)).fires(4, |fed| fed.admitted(0));
    up(EvaluateOn::Each, Some(true)).admitted(0);
    // The first one's counts for all, where the plan says so.
    for (replicas, counts) in [(EvaluateOn::First, true), (EvaluateOn::Each, false)] {
        let mut fed = up(replicas, Some(true));
        fed.admitted(0);
        fed.take_out_of(1);
        let (second, none) = (ReplicaId(1), Reply::InFlight { balancer: Some(0), engine: Some(0) });
        fed.told(second, Action::ProbeInFlight, none.clone());
        fed.told(second, Action::ProbeInFlight, none);
        fed.told(second, Action::Stop { grace: Span::ZERO }, Reply::Stopped { cut: 0 });
        fed.comes_up(1);
        if counts {
            fed.admitted(1);
        } else {
            fed.fires(4, |fed| fed.admitted(1));
        }
    }
}

#[test]
fn condition_5_of_empty_places_and_of_those_that_leave() {
    let closed = |plan: &mut Plan| {
        surge()(plan);
        plan.rollout.move_expected = Span::from_secs(60);
        plan.windows = vec![Window::new(Time::from_secs(900), Time::from_secs(1_059))];
    };
    Fed::new(closed).fires(5, |fed| fed.comes_up(3));
    // To leave for the twin needs no window any more, but a way back.
    let leaves = |undo_ready: bool| {
        let mut fed = Fed::new(|plan| {
            side_by_side(plan);
            plan.rollout.move_expected = Span::from_secs(60);
            plan.windows = vec![Window::new(Time::from_secs(900), Time::from_secs(1_060))];
        });
        fed.comes_up(3);
        fed.admitted(3);
        fed.now = fed.now + Span::from_secs(600);
        fed.look(FIRST, undo_ready);
        fed
    };
    leaves(false).fires(5, Fed::take_out);
    leaves(true).take_out();
}

#[test]
fn condition_6_of_an_empty_place() {
    let report = |empty| FinalReport {
        phase: Phase::Ended { outcome: crate::Outcome::RolledBack },
        version: VersionRef::From,
        serving: vec![ReplicaId(0), ReplicaId(1), ReplicaId(2)],
        empty,
        exceptions: Vec::new(),
    };
    let spare = vec![ReplicaId(3)];
    Fed::new(surge()).safety.check_report(&report(spare.clone()));
    Fed::new(surge()).fires(6, |fed| fed.safety.check_report(&report(Vec::new())));
    let mut fed = Fed::new(surge());
    fed.comes_up(3);
    fed.fires(6, |fed| fed.safety.check_report(&report(spare)));
}

#[test]
fn condition_5_one_the_plan_leaves_alone() {
    let others = |plan: &mut Plan| plan.only = vec!["b".to_owned(), "c".to_owned()];
    Fed::new(others).fires(5, Fed::take_out);
    let mut fed = Fed::new(others);
    down(&mut fed, 0);
    fed.fires(5, Fed::gpu_free_and_start);
}

#[test]
fn condition_6_somebody_is_not_named() {
    let report = |exceptions| FinalReport {
        phase: Phase::Ended { outcome: crate::Outcome::RolledBack },
        version: VersionRef::From,
        serving: vec![ReplicaId(0), ReplicaId(1), ReplicaId(2)],
        empty: Vec::new(),
        exceptions,
    };
    let named = |mend: &str| Exception {
        replica: FIRST,
        name: "a".to_owned(),
        state: ReplicaState::Parked,
        running: None,
        reason: "parked".to_owned(),
        mend: mend.to_owned(),
    };
    Fed::new(|_| {}).safety.check_report(&report(Vec::new()));
    let mut fed = Fed::new(|_| {});
    down(&mut fed, 0);
    fed.fires(6, |fed| fed.safety.check_report(&report(Vec::new())));
    let mut fed = Fed::new(|_| {});
    down(&mut fed, 0);
    fed.fires(6, |fed| fed.safety.check_report(&report(vec![named("")])));
    let mut fed = Fed::new(|_| {});
    down(&mut fed, 0);
    fed.safety.check_report(&report(vec![named("slackwater rollback PLAN --only a")]));
}
