//! Bugs put between the policy and the world, each of which the net must catch by its shortest path.
//!
//! The policy's own assertions stand in its way as they would in life; most of these lie to it, so that what catches them is the world's
//! statement of the conditions.

use slackwater_explore::configurations::{bounds, configurations, plan};
use slackwater_explore::driver::{Driver, Honest};
use slackwater_explore::model::{Bounds, Setup};
use slackwater_explore::search::{Counterexample, explore};
use slackwater_explore::world::{Process, World};
use slackwater_policy::{
    Action, Command, Event, Observed, Phase, Plan, Reply, Rollout, Span, StrategySpec, Time,
};

fn setup(name: &str, bounds: Bounds) -> Setup {
    let found = configurations().into_iter().find(|configuration| configuration.name == name);
    found.unwrap_or_else(|| panic!("no configuration `{name}`")).with(bounds)
}

/// The honest driver passes, the planted one does not, and the way to it is short and readable.
fn catches(name: &str, bounds: Bounds, bug: &dyn Driver, words: &str) -> Counterexample {
    let setup = setup(name, bounds);
    assert_eq!(explore(&setup, &Honest).counterexample, None, "without the bug");
    let found = explore(&setup, bug).counterexample.unwrap_or_else(|| panic!("not caught: {words}"));
    println!("{}", found.text);
    assert!(found.violation.contains(words), "caught as something else: {}", found.text);
    assert!(found.text.lines().count() > found.path.len(), "the path in words");
    found
}

/// The truth about the replica of a command.
fn truth<'a>(world: &'a World, command: &Command) -> Option<&'a slackwater_explore::world::Truth> {
    command.replica.map(|replica| &world.replicas[replica.index()])
}

struct StopsAfterOneZero;

impl Driver for StopsAfterOneZero {
    fn makes_up(&self, world: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let once = command.action == Action::ProbeInFlight && truth(world, command)?.zeroes == 1;
        once.then_some(Reply::InFlight { balancer: Some(0), engine: Some(0) })
    }
}

#[test]
fn a_driver_that_repeats_the_first_zero() {
    catches("rolling", bounds(1, 0, 0), &StopsAfterOneZero, "stopped with requests in flight");
}

struct TakesTheVersionForGranted;

impl Driver for TakesTheVersionForGranted {
    fn makes_up(&self, _: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        match command.action {
            Action::ProbeFingerprint { expect } => Some(Reply::Fingerprint { seen: Some(expect) }),
            _ => None,
        }
    }
}

#[test]
fn an_admission_before_the_identity_is_known() {
    catches(
        "rolling",
        bounds(1, 0, 0),
        &TakesTheVersionForGranted,
        "condition 4: replica 0 is admitted with Foreign",
    );
}

struct TakesHealthForGranted;

impl Driver for TakesHealthForGranted {
    fn makes_up(&self, _: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        match command.action {
            Action::ProbeHealth => Some(Reply::Healthy),
            Action::ProbeFingerprint { expect } => Some(Reply::Fingerprint { seen: Some(expect) }),
            Action::SmokePrompt => Some(Reply::SmokeAnswered),
            _ => None,
        }
    }
}

#[test]
fn an_admission_of_what_is_not_healthy() {
    catches("rolling", bounds(0, 0, 0), &TakesHealthForGranted, "it is not healthy");
}

struct SaysAdmittedAndDoesNot;

impl Driver for SaysAdmittedAndDoesNot {
    fn makes_up(&self, _: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        matches!(command.action, Action::Admit { .. }).then_some(Reply::Admitted)
    }
}

#[test]
fn the_next_one_taken_out_before_the_former_is_admitted() {
    catches("rolling", bounds(0, 0, 0), &SaysAdmittedAndDoesNot, "condition 2: replica 1 is taken out");
}

/// The survey after a restart is answered at once, while an older command is still on its way.
struct ForgetsWhatIsOutstanding;

impl Driver for ForgetsWhatIsOutstanding {
    fn makes_up(&self, world: &World, phase: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let truth = truth(world, command)?;
        let older = world.pending.iter().any(|pending| pending.replica == command.replica);
        let there = truth.process != Process::Gone;
        let version = match truth.process {
            Process::Runs(version) => Some(version),
            Process::Gone | Process::Foreign => None,
        };
        let seen = Observed {
            in_rotation: truth.rotation,
            process: there,
            healthy: truth.healthy,
            version,
            undo_ready: true,
        };
        let survey = command.action == Action::Observe && older && phase() == Phase::Surveying;
        survey.then_some(Reply::Observed(seen))
    }
}

#[test]
fn a_recovery_that_forgets_the_outstanding_command() {
    // The old order to leave takes effect after the order was given anew or taken back.
    catches("rolling", bounds(0, 1, 1), &ForgetsWhatIsOutstanding, "replica 0 is out");
}

struct NeverSaysDown;

impl Driver for NeverSaysDown {
    fn tells(&self, _: &World, _: &Rollout, now: Time, event: Event) -> Option<(Time, Event)> {
        (!matches!(event, Event::ReplicaDown { .. })).then_some((now, event))
    }
}

#[test]
fn a_death_of_another_that_the_gate_does_not_hear_of() {
    catches("rolling", bounds(1, 0, 0), &NeverSaysDown, "condition 2: replica 0 is taken out");
}

/// Time does not pass while a command is outstanding that nobody will answer.
struct NeverAsksAgain;

impl Driver for NeverAsksAgain {
    fn tells(&self, world: &World, rollout: &Rollout, now: Time, event: Event) -> Option<(Time, Event)> {
        let waits = rollout.status().replicas.iter().any(|replica| {
            let step = replica.step.map(|step| format!("{step:?}"));
            step.is_some_and(|step| !matches!(step.as_str(), "AwaitZero" | "Soak" | "Gate"))
        });
        let lost = event == Event::Tick && waits && world.pending.is_empty();
        (!lost).then_some((now, event))
    }
}

#[test]
fn a_lost_reply_that_is_never_asked_for_again() {
    let found = catches_stuck("rolling", bounds(1, 0, 0), &NeverAsksAgain);
    assert!(found.text.contains("the reply is lost") || found.text.contains("no reply"), "{}", found.text);
}

fn catches_stuck(name: &str, bounds: Bounds, bug: &dyn Driver) -> Counterexample {
    let found = catches(name, bounds, bug, "stuck");
    assert!(found.text.contains("and then, without a fault"), "{}", found.text);
    found
}

struct KnowsNoWindow;

impl Driver for KnowsNoWindow {
    fn plan(&self, plan: &mut Plan) {
        plan.windows.clear();
    }
}

#[test]
fn a_move_that_begins_when_the_window_is_over() {
    catches("rolling, window", bounds(0, 0, 0), &KnowsNoWindow, "begins outside the window");
}

struct SaysMemoryIsFree;

impl Driver for SaysMemoryIsFree {
    fn makes_up(&self, _: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        matches!(command.action, Action::ProbeGpu { .. }).then_some(Reply::GpuFree)
    }
}

#[test]
fn a_start_on_memory_that_is_held() {
    catches("rolling", bounds(0, 0, 0), &SaysMemoryIsFree, "condition 3: replica 0 is started while");
}

struct CutsEarly;

impl Driver for CutsEarly {
    fn plan(&self, plan: &mut Plan) {
        plan.rollout.drain.timeout = Span::from_secs(1);
    }
}

#[test]
fn requests_cut_before_their_time() {
    catches("rolling", bounds(0, 0, 0), &CutsEarly, "condition 3: requests on replica 0 are cut");
}

struct TwoAtOnce;

impl Driver for TwoAtOnce {
    fn plan(&self, plan: &mut Plan) {
        plan.strategy = StrategySpec::Rolling { max_unavailable: 2, order: Vec::new() };
    }
}

#[test]
fn two_out_where_the_plan_says_one() {
    catches("only two of three", bounds(0, 0, 0), &TwoAtOnce, "condition 1");
}

struct TouchesAll;

impl Driver for TouchesAll {
    fn plan(&self, plan: &mut Plan) {
        plan.only.clear();
    }
}

#[test]
fn a_replica_touched_that_the_plan_leaves_alone() {
    catches("only two of three", bounds(0, 0, 0), &TouchesAll, "condition 5: `take out` for replica 1");
}

/// A hold leaves the replica in hand where it is: what puts it back is said to be done.
struct HoldsAtOneLess;

impl Driver for HoldsAtOneLess {
    fn makes_up(&self, _: &World, phase: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let holds = matches!(phase(), Phase::Holding { .. });
        (holds && matches!(command.action, Action::Admit { .. })).then_some(Reply::Admitted)
    }
}

#[test]
fn a_hold_that_leaves_one_out() {
    catches("rolling", bounds(0, 1, 0), &HoldsAtOneLess, "hold means N: replica 0 is out");
}

/// An exploration of a plan that would be refused says so.
#[test]
fn a_plan_that_is_refused() {
    let mut plan = plan(2);
    plan.rollout.drain.zeroes = 1;
    let setup = Setup { plan, faults: Vec::new(), orders: Vec::new(), bounds: bounds(0, 0, 0) };
    let found = explore(&setup, &Honest).counterexample.unwrap();
    assert!(found.violation.contains("rollout.drain.zeroes"), "{}", found.violation);
}

/// What is started on the same GPU is started without a look at the memory for both.
#[test]
fn a_twin_started_without_memory_for_both() {
    catches("side by side", bounds(0, 0, 0), &SaysMemoryIsFree, "condition 3: replica 2 is started while");
}

/// The twin's admission is said to be done: the old one leaves before anybody serves in its place.
#[test]
fn an_old_one_that_leaves_before_its_twin_serves() {
    catches(
        "side by side",
        bounds(0, 0, 0),
        &SaysAdmittedAndDoesNot,
        "condition 1: replica 0 is taken out while 1 others serve, and 2 must",
    );
}

/// One of those that take over is said to be admitted.
struct SaysTheLastAdmittedAndDoesNot;

impl Driver for SaysTheLastAdmittedAndDoesNot {
    fn makes_up(&self, world: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let last = command.replica?.index() + 1 == world.replicas.len();
        (last && matches!(command.action, Action::Admit { .. })).then_some(Reply::Admitted)
    }
}

#[test]
fn an_old_one_that_leaves_while_one_of_those_that_take_over_does_not_serve() {
    let words = "is taken out before replica 3 serves the new version in its place";
    catches("blue-green", bounds(0, 0, 0), &SaysTheLastAdmittedAndDoesNot, words);
}

#[test]
fn a_swap_with_requests_in_flight() {
    catches("swap", bounds(1, 0, 0), &StopsAfterOneZero, "swapped with requests in flight");
}

/// Every evaluation is said to pass, made or not.
struct TakesTheEvaluationForGranted;

impl Driver for TakesTheEvaluationForGranted {
    fn makes_up(&self, _: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let evaluates = matches!(command.action, Action::Evaluate { .. });
        evaluates.then(|| Reply::Evaluated { passed: true, said: String::new() })
    }
}

#[test]
fn an_admission_without_an_evaluation() {
    for name in ["rolling, first evaluated", "rolling, each evaluated"] {
        let words = "is admitted before its evaluation has passed";
        catches(name, bounds(0, 0, 0), &TakesTheEvaluationForGranted, words);
    }
}

/// The first of those that are to be admitted together is let in as soon as it is ready.
struct DoesNotWaitForTheOthers;

impl Driver for DoesNotWaitForTheOthers {
    fn makes_up(&self, world: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let truth = truth(world, command)?;
        match command.action {
            _ if command.replica?.index() != 3 => None,
            Action::ProbeHealth => Some(Reply::Healthy),
            Action::ProbeFingerprint { expect } => Some(Reply::Fingerprint { seen: Some(expect) }),
            Action::SmokePrompt if !truth.smoked => Some(Reply::SmokeAnswered),
            _ => None,
        }
    }
}

#[test]
fn one_of_many_admitted_before_the_others_are_ready() {
    let words = "condition 4: replica 2 is admitted, and replica 3 is not ready to be with it";
    catches("blue-green", bounds(0, 0, 0), &DoesNotWaitForTheOthers, words);
}

/// The canary is not compared with anything.
struct ComparesNothing;

impl Driver for ComparesNothing {
    fn plan(&self, plan: &mut Plan) {
        if let StrategySpec::Canary { compare, .. } = &mut plan.strategy {
            *compare = None;
        }
    }
}

#[test]
fn a_canary_that_is_never_compared() {
    let words = "begins before the canary is compared";
    catches("canary, measured", bounds(0, 0, 0), &ComparesNothing, words);
}

/// A place that is to be empty in the end is said to be.
struct SaysStoppedAndDoesNot;

impl Driver for SaysStoppedAndDoesNot {
    fn makes_up(&self, world: &World, _: &dyn Fn() -> Phase, command: &Command) -> Option<Reply> {
        let spare = world.plan.is_spare(command.replica?);
        (spare && matches!(command.action, Action::Stop { .. })).then_some(Reply::Stopped { cut: 0 })
    }
}

#[test]
fn a_spare_that_still_runs_at_the_end() {
    let words = "condition 6: replica 2 is not empty";
    catches("surge, one spare", bounds(0, 0, 0), &SaysStoppedAndDoesNot, words);
}
