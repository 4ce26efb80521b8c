//! One script, two worlds: the same plan through the simulator's replicas and through real processes behind each balancer must tell the
//! same story: the same moves, through the same states, to the same ends. How long each takes is not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use slackwater_engine::Ps;
use slackwater_exec::supervisor::{Processes, Supervisor};
use slackwater_load::Pace;
use slackwater_policy::{
    CapacityRow, Entry, EvaluateOn, Event, Figure, Guard, GuardAction, MoveResult, Note, Operator, Outcome,
    Plan, QualitySpec, Record, ReplicaState, Reply, Span, VersionRef,
};
use slackwater_scenarios::Scenario;
use slackwater_sim::{RunInfo, RunOptions, Setup, World, plan_for, start_offset_ps};

use super::fleet::{BINARY, Fleet, Front, Spec, first_runs_new, is_there, records};

/// What happens to a fleet of two.
#[derive(Clone, Copy)]
struct Situation {
    name: &'static str,
    /// What the scenario has for it.
    scenario: &'static str,
    /// What it has of the new version.
    to: &'static str,
    /// The new version's fault.
    fault: Option<&'static str>,
    /// The second replica is dead before the rollout begins.
    dead: bool,
    /// Tokens of an answer: as the scenario has them, and in life.
    tokens: (&'static str, (u32, u32)),
    drain_timeout: &'static str,
    soak: &'static str,
    approval: &'static str,
    /// What is changed of the scenario's plan.
    plan: fn(&mut Plan),
    acts: &'static [Act],
}

/// Something done to a rollout under way.
#[derive(Clone, Copy)]
struct Act {
    when: Point,
    what: What,
}

/// As far as it has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The first replica is back in rotation, with the new version.
    FirstBack,
    /// It holds, with no replica in hand.
    Holds,
}

#[derive(Clone, Copy)]
enum What {
    /// A person's order.
    Order(Operator),
    /// An approval: the simulated person gives it by itself.
    Approve,
    /// The second replica's process is killed, and somebody starts it again. A fault in the scenario.
    Crash,
    /// The executor is killed, and another goes on. There is none in a simulation.
    KillExecutor,
}

const USUAL: Situation = Situation {
    name: "usual",
    scenario: "",
    to: "",
    fault: None,
    dead: false,
    tokens: ("", (20, 200)),
    drain_timeout: "60s",
    soak: "200ms",
    approval: "none",
    plan: |_| {},
    acts: &[],
};

/// Short answers, for situations that wait for several to end.
const SHORT: (&str, (u32, u32)) = ("output = [{ median = 15, sigma = 0.1 }]", (12, 18));

/// The user's own check of each new replica, twice.
fn evaluation(command: &str) -> QualitySpec {
    QualitySpec {
        out_of_rotation: true,
        live: true,
        replicas: EvaluateOn::Each,
        command: vec![command.to_owned()],
    }
}

fn situations() -> Vec<Situation> {
    let ordered = |name, acts| Situation { name, acts, soak: "4s", ..USUAL };
    vec![
        USUAL,
        Situation {
            name: "never healthy",
            scenario: "[[faults]]\nkind = 'never-healthy'\nversion = 'to'\n",
            fault: Some("never-healthy"),
            ..USUAL
        },
        Situation {
            name: "dead before the start",
            scenario: "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = '10s'\n",
            dead: true,
            ..USUAL
        },
        Situation {
            name: "the drain's time is over",
            tokens: ("output = [{ median = 6000, sigma = 0.1 }]", (16_000, 16_001)),
            drain_timeout: "1s",
            ..USUAL
        },
        Situation {
            name: "approved after the first",
            approval: "after_first",
            acts: &[Act { when: Point::Holds, what: What::Approve }],
            ..USUAL
        },
        ordered(
            "paused and resumed",
            &[
                Act { when: Point::FirstBack, what: What::Order(Operator::Pause) },
                Act { when: Point::Holds, what: What::Order(Operator::Resume) },
            ],
        ),
        ordered("rolled back", &[Act { when: Point::FirstBack, what: What::Order(Operator::Rollback) }]),
        Situation {
            name: "the load is measured at the gate",
            plan: |plan| {
                // A capacity that nobody reaches: how much load there is, is not part of the story.
                plan.gate.capacity =
                    vec![CapacityRow { serving: 1, rate: 1e6 }, CapacityRow { serving: 2, rate: 2e6 }];
                plan.gate.recheck = Span::from_millis(200);
            },
            ..USUAL
        },
        Situation {
            name: "evaluated",
            plan: |plan| plan.rollout.quality = Some(evaluation("true")),
            ..USUAL
        },
        Situation {
            name: "evaluated and found wanting",
            to: "passes_evaluation = false",
            plan: |plan| plan.rollout.quality = Some(evaluation("false")),
            ..USUAL
        },
        ordered("aborted", &[Act { when: Point::FirstBack, what: What::Order(Operator::Abort) }]),
        ordered("its executor killed", &[Act { when: Point::FirstBack, what: What::KillExecutor }]),
        Situation {
            name: "slow, held by a guard, taken back by a person",
            // In life the engine runs twenty times as fast.
            to: "step_time_factor = 20.0",
            fault: Some("slow=400"),
            tokens: SHORT,
            soak: "40s",
            plan: |plan| {
                plan.guards = vec![Guard {
                    figure: Figure::TpotP99,
                    limit: 0.12,
                    sustained: Span::from_secs(5),
                    action: GuardAction::Hold,
                }];
            },
            acts: &[Act { when: Point::Holds, what: What::Order(Operator::Rollback) }],
            ..USUAL
        },
        Situation {
            name: "one dies while another is watched, and comes back",
            scenario: "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nduring = 'soak'\nof = 'replica-0'\n\
                       back_after = '2s'\nnoticed_after = '500ms'\n",
            soak: "6s",
            acts: &[Act { when: Point::FirstBack, what: What::Crash }],
            ..USUAL
        },
    ]
}

/// The plan and the journal of the simulator.
fn simulated(situation: &Situation, front: Front) -> (Plan, Vec<Record>) {
    let router = match front {
        Front::Nginx => "nginx-least-conn",
        Front::Haproxy => "haproxy-leastconn",
        Front::Gateway => "least-connections",
    };
    let Situation { scenario, to, drain_timeout, soak, approval, tokens: (output, _), .. } = situation;
    let text = format!(
        "seed = 1\nrouter.policy = '{router}'\n[fleet]\nreplicas = 2\n[from]\nname = 'v1'\nengine = 'a100-llama-3.1-8b'\nstop = '100ms'\ngpu_release = '0s'\n\
         startup = '500ms'\nwarm_up = '500ms'\n[to]\nname = 'v2'\n{to}\n[traffic.generate]\nduration = '3m'\nrate_per_s = 2.0\n{output}\n\
         [slo]\nttft = '2s'\ntpot = '100ms'\nshare = 0.99\n[rollout]\nstart = '30s'\nsoak = '{soak}'\ndrain_timeout = '{drain_timeout}'\n\
         in_flight_poll = '100ms'\nstop_timeout = '2s'\non_failure = 'hold'\napproval = '{approval}'\napproval_delay = '1s'\n\
         [rollout.health]\ninterval = '100ms'\ntimeout = '3s'\n{scenario}"
    );
    let scenario = Scenario::parse(&text, situation.name).unwrap();
    let start = start_offset_ps(scenario.rollout.start, None).unwrap();
    let mut plan = plan_for(&scenario, None, start, &[]).unwrap();
    (situation.plan)(&mut plan);
    let mut orders = Vec::new();
    for act in situation.acts {
        let What::Order(order) = act.what else { continue };
        // When that point is reached is seen in the same rollout without the order.
        let at = reached(&lived_through(&scenario, &plan, start, &orders), start, act.when, orders.last());
        orders.push((at + 500_000_000_000, order));
    }
    let journal = lived_through(&scenario, &plan, start, &orders);
    (plan, journal)
}

/// A simulated rollout with a person's orders at these times.
fn lived_through(scenario: &Scenario, plan: &Plan, start: Ps, orders: &[(Ps, Operator)]) -> Vec<Record> {
    let traffic = scenario.open_traffic().unwrap();
    let setup = Arc::new(Setup::new(scenario).unwrap());
    let mut world = World::new(setup, traffic, RunOptions { series: false, rows: false }).unwrap();
    world.run_until(start).unwrap();
    world.begin_rollout(plan.clone()).unwrap();
    for (at, order) in orders {
        world.run_until(*at).unwrap();
        world.order(*order).unwrap();
    }
    world.run().unwrap();
    world.finish(RunInfo::default()).1
}

/// When a journal first reaches a point, after the last order.
fn reached(journal: &[Record], start: Ps, point: Point, after: Option<&(Ps, Operator)>) -> Ps {
    let there = |record: &&Record| match &record.entry {
        Entry::Note(Note::State { state: ReplicaState::Readmitted, .. }) => point == Point::FirstBack,
        Entry::Note(Note::HoldSettled { .. }) => point == Point::Holds,
        _ => false,
    };
    let at = |record: &Record| start + record.at.since(journal[0].at).as_nanos() * 1000;
    let mut found = journal.iter().filter(there).map(at);
    found.find(|at| after.is_none_or(|(last, _)| at >= last)).expect("the rollout comes so far")
}

/// The journal of real processes, with the simulator's own plan.
fn lived(situation: &Situation, front: Front, plan: &Plan) -> Vec<Record> {
    let mut spec = Spec::new(front, 2);
    if let Some(fault) = situation.fault {
        spec = spec.new_fault(fault);
    }
    let mut fleet = Fleet::start(&spec);
    fleet.plan = plan.clone();
    fleet.write_plan();
    if situation.dead {
        kill(&fleet, 1);
    }
    let load = (!situation.dead).then(|| {
        fleet.load_with(4, |options| {
            options.prompt.output_tokens = situation.tokens.1;
            if situation.fault.is_some() {
                // Clients that wait for their answers would send a slow replica too few requests for anybody to notice.
                options.pace = Pace::Rate(4.0);
            }
        })
    });
    // Long answers are to be under way.
    std::thread::sleep(Duration::from_millis(500));
    let mut executor = executor(&fleet, situation);
    for act in situation.acts {
        match act.when {
            Point::FirstBack => fleet.until("the first is back", first_runs_new),
            Point::Holds => fleet.until("it holds", |status| {
                let holding = &status["status"]["phase"]["holding"];
                holding["settled"] == true || holding["reason"] == "approval"
            }),
        };
        match act.what {
            What::Order(order) => {
                let order = format!("{order:?}").to_lowercase();
                assert_eq!(fleet.order(&order).status.code(), Some(0), "{order}");
            }
            What::Approve => assert_eq!(fleet.order("approve").status.code(), Some(0)),
            What::Crash => {
                kill(&fleet, 1);
                std::thread::sleep(Duration::from_secs(2));
                let deployment = fleet.deployment();
                let processes = Processes::new(deployment.clone());
                fleet.runtime.block_on(processes.start(&deployment.replicas[1], VersionRef::From)).unwrap();
            }
            What::KillExecutor => {
                executor.kill();
                let mut command = Command::new(BINARY);
                command.args(["run", "--resume", "--leave-when-held", "--deployment"]);
                command.arg(fleet.deployment_path());
                executor = Executor::started(command);
            }
        }
    }
    executor.wait();
    let journal = records(&fleet.state());
    if let Some(load) = load {
        fleet.stop_load(load);
    }
    journal
}

/// An executor of the test; it ends with the test, whatever comes of it.
struct Executor(Child);

impl Executor {
    fn started(mut command: Command) -> Executor {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Executor(quiet.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn executor(fleet: &Fleet, situation: &Situation) -> Executor {
    let mut command = Command::new(BINARY);
    command.arg("run").arg(fleet.plan_path()).arg("--deployment").arg(fleet.deployment_path()).arg("--yes");
    if !situation.acts.iter().any(|act| act.when == Point::Holds) {
        command.arg("--leave-when-held");
    }
    Executor::started(command)
}

fn kill(fleet: &Fleet, replica: usize) {
    let pid = i32::try_from(fleet.pids()[replica].unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// What happened, told without times and counts: to each replica (`None`: to the rollout), in its order.
fn story(records: &[Record]) -> BTreeMap<Option<u16>, Vec<String>> {
    let mut story: BTreeMap<Option<u16>, Vec<String>> = BTreeMap::new();
    for record in records {
        let Entry::Note(note) = &record.entry else { continue };
        let (of, word) = match note {
            Note::MoveBegan { replica, target, .. } => (Some(replica.0), format!("move to {target}")),
            Note::State { replica, state, running } => {
                (Some(replica.0), format!("{state:?} with {running:?}"))
            }
            Note::BringUpAgain { replica, attempt, .. } => (Some(replica.0), format!("attempt {attempt}")),
            Note::MoveEnded { replica, result } => {
                let word = match result {
                    MoveResult::Done => "done",
                    MoveResult::CalledOff => "called off",
                    MoveResult::PutBack { .. } => "put back",
                    MoveResult::Undone { .. } => "undone",
                    MoveResult::Parked { .. } => "parked",
                };
                (Some(replica.0), word.to_owned())
            }
            Note::Cut { replica, .. } => (Some(replica.0), "cut".to_owned()),
            Note::HoldBegan { reason, .. } => {
                (None, format!("holds for {:?}", std::mem::discriminant(reason)))
            }
            Note::HoldSettled { serving, of } => (None, format!("settled with {serving} of {of}")),
            Note::HoldEnded => (None, "goes on".to_owned()),
            Note::Ended { outcome } => (None, format!("{outcome:?}")),
            _ => continue,
        };
        let told = story.entry(of).or_default();
        // Where the load is known from counters, the gate looks a second time: how often is not part of the story.
        if !matches!(note, Note::State { state: ReplicaState::Serving, .. }) || told.last() != Some(&word) {
            told.push(word);
        }
    }
    story
}

/// In which world a kind of fact comes up in these situations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// In both.
    Both,
    /// In both, but whether there was time for one is chance in a short rollout.
    ByChance,
    /// In both, behind a balancer that can do it.
    Able,
    /// Not here, and why.
    Not(#[allow(dead_code)] &'static str),
}

/// Every kind of fact, by its name. A variant that is added does not compile before it has its line here, and one that comes up in only one
/// world, or in neither, needs a reason.
fn comes(event: &Event) -> (&'static str, Comes) {
    match event {
        Event::Start => ("start", Comes::Both),
        Event::Tick => ("tick", Comes::Both),
        Event::ReplicaDown { .. } => ("replica down", Comes::Both),
        Event::ReplicaUp { .. } => ("replica up", Comes::Both),
        Event::Load { .. } => ("load", Comes::Both),
        Event::Figure { .. } => ("figure", Comes::Both),
        Event::Comparison { .. } => {
            ("comparison", Comes::Not("the verdict of somebody else's tool: neither driver has such a tool"))
        }
        Event::Evidence { .. } => {
            ("evidence", Comes::ByChance) // A block a minute: no rollout here is so long.
        }
        Event::Operator(Operator::Pause) => ("pause", Comes::Both),
        Event::Operator(Operator::Resume) => ("resume", Comes::Both),
        Event::Operator(Operator::Approve) => ("approve", Comes::Both),
        Event::Operator(Operator::Abort) => ("abort", Comes::Both),
        Event::Operator(Operator::Rollback) => ("rollback", Comes::Both),
        Event::Recovered => ("recovered", Comes::Not("life only: a simulated executor does not die")),
        Event::Outcome { outcome, .. } => match outcome {
            Reply::Observed(_) => ("observed", Comes::Both),
            Reply::Out => ("out", Comes::Both),
            Reply::InFlight { .. } => ("in flight", Comes::Both),
            Reply::Cut { .. } => ("cut", Comes::Able),
            Reply::Stopped { .. } => ("stopped", Comes::Both),
            Reply::GpuFree => ("GPU free", Comes::Both),
            Reply::Started => ("started", Comes::Both),
            Reply::Healthy => ("healthy", Comes::Both),
            Reply::Fingerprint { .. } => ("fingerprint", Comes::Both),
            Reply::SmokeAnswered => ("smoke answered", Comes::Both),
            Reply::WarmedUp => ("warmed up", Comes::Both),
            Reply::Admitted => ("admitted", Comes::Both),
            Reply::Swapped => ("swapped", Comes::Not("simulation only: the preflight refuses `swap`")),
            Reply::Evaluated { .. } => ("evaluated", Comes::Both),
            Reply::Load { .. } => ("load measured", Comes::Both),
            Reply::Failed { .. } => ("failed", Comes::Both),
        },
    }
}

/// Those of `comes` that come up in both worlds, so that one that never comes up is missed.
const BOTH: [&str; 26] = [
    "evaluated",
    "start",
    "tick",
    "replica down",
    "replica up",
    "load",
    "figure",
    "pause",
    "resume",
    "approve",
    "abort",
    "rollback",
    "observed",
    "out",
    "in flight",
    "stopped",
    "GPU free",
    "started",
    "healthy",
    "fingerprint",
    "smoke answered",
    "warmed up",
    "admitted",
    "load measured",
    "failed",
    "cut",
];

/// The kinds of facts that the policy was told.
fn facts(records: &[Record]) -> BTreeMap<&'static str, Comes> {
    let told = records.iter().filter_map(|record| match &record.entry {
        Entry::Event(event) => Some(comes(event)),
        Entry::Refused { .. } | Entry::Command(_) | Entry::Note(_) => None,
    });
    told.collect()
}

fn conforms(front: Front) {
    let (mut in_simulation, mut in_life) = (BTreeMap::new(), BTreeMap::new());
    for situation in situations() {
        let (plan, simulated) = simulated(&situation, front);
        let lived = lived(&situation, front, &plan);
        let (mut expected, mut found) = (story(&simulated), story(&lived));
        if situation.acts.iter().any(|act| matches!(act.what, What::KillExecutor)) {
            // Another executor looks at everything anew; what it comes to is the same.
            (expected, found) = (ends(&expected), ends(&found));
        }
        assert_eq!(
            found, expected,
            "{front:?}, {}: what was lived (left) is not what was simulated",
            situation.name
        );
        eprintln!("{front:?}, {}: one story", situation.name);
        in_simulation.extend(facts(&simulated));
        in_life.extend(facts(&lived));
    }
    let sure = |facts: &BTreeMap<&'static str, Comes>| -> BTreeSet<&'static str> {
        let sure = facts.iter().filter(|(_, comes)| matches!(comes, Comes::Both | Comes::Able));
        sure.map(|(name, _)| *name).collect()
    };
    let able: BTreeSet<&str> =
        BOTH.into_iter().filter(|name| front != Front::Nginx || *name != "cut").collect();
    assert_eq!(sure(&in_life), able, "{front:?}: kinds of facts in life (left), and those that must come up");
    assert_eq!(sure(&in_simulation), able, "{front:?}: the same of the simulation");
    let odd = |facts: &BTreeMap<&'static str, Comes>| -> Vec<&'static str> {
        let not = facts.iter().filter(|(_, comes)| matches!(comes, Comes::Not(_)));
        not.map(|(name, _)| *name).collect()
    };
    assert_eq!((odd(&in_life), odd(&in_simulation)), (vec!["recovered"], vec![]), "{front:?}");
}

/// A story's ends: how each move and the rollout ended.
fn ends(story: &BTreeMap<Option<u16>, Vec<String>>) -> BTreeMap<Option<u16>, Vec<String>> {
    let completed = format!("{:?}", Outcome::Completed);
    let end = |word: &String| word.starts_with("move to") || *word == "done" || *word == completed;
    story.iter().map(|(of, words)| (*of, words.iter().filter(|word| end(word)).cloned().collect())).collect()
}

#[test]
fn the_gateway_and_the_simulator_tell_one_story() {
    conforms(Front::Gateway);
}

#[test]
fn nginx_and_the_simulator_tell_one_story() {
    if is_there("nginx") {
        conforms(Front::Nginx);
    }
}

#[test]
fn haproxy_and_the_simulator_tell_one_story() {
    if is_there("haproxy") {
        conforms(Front::Haproxy);
    }
}
