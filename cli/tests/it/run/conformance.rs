//! One script, two worlds: the same plan through the simulator's replicas and through real processes behind each balancer must tell the
//! same story: the same moves, through the same states, to the same ends. How long each takes is not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use slackwater_policy::{Entry, Event, MoveResult, Note, Plan, Record, Reply};

use super::fleet::{BINARY, Fleet, Front, Spec, is_there, records};

/// What happens to a fleet of two.
struct Situation {
    name: &'static str,
    /// What the scenario has for it.
    scenario: &'static str,
    /// The new version's fault.
    fault: Option<&'static str>,
    /// The second replica is dead before the rollout begins.
    dead: bool,
    /// Tokens of an answer, in both worlds.
    long: bool,
    approves: bool,
}

const USUAL: Situation =
    Situation { name: "usual", scenario: "", fault: None, dead: false, long: false, approves: false };

fn situations() -> Vec<Situation> {
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
        Situation { name: "the drain's time is over", long: true, ..USUAL },
        Situation { name: "approved after the first", approves: true, ..USUAL },
    ]
}

/// The plan and the journal of the simulator.
fn simulated(situation: &Situation, front: Front, folder: &std::path::Path) -> (Plan, Vec<Record>) {
    let router = match front {
        Front::Nginx => "nginx-least-conn",
        Front::Haproxy => "haproxy-leastconn",
        Front::Gateway => "least-connections",
    };
    let (drain, output) =
        if situation.long { ("1s", "output = [{ median = 6000, sigma = 0.1 }]") } else { ("60s", "") };
    let approval = if situation.approves { "after_first" } else { "none" };
    let scenario = format!(
        "seed = 1\nrouter.policy = '{router}'\n[fleet]\nreplicas = 2\n[from]\nname = 'v1'\nengine = 'a100-llama-3.1-8b'\nstop = '100ms'\ngpu_release = '0s'\n\
         startup = '500ms'\nwarm_up = '500ms'\n[to]\nname = 'v2'\n[traffic.generate]\nduration = '2m'\nrate_per_s = 2.0\n{output}\n\
         [slo]\nttft = '2s'\ntpot = '100ms'\nshare = 0.99\n[rollout]\nstart = '30s'\nsoak = '200ms'\ndrain_timeout = '{drain}'\n\
         in_flight_poll = '100ms'\nstop_timeout = '2s'\non_failure = 'hold'\napproval = '{approval}'\napproval_delay = '1s'\n\
         [rollout.health]\ninterval = '100ms'\ntimeout = '3s'\n{}",
        situation.scenario
    );
    let path = folder.join("scenario.toml");
    fs::write(&path, scenario).unwrap();
    let out = folder.join("simulated");
    let output = Command::new(BINARY).arg("simulate").arg(&path).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan = toml::from_str(&fs::read_to_string(out.join("plan.toml")).unwrap()).unwrap();
    let journal = fs::read_to_string(out.join("journal.jsonl")).unwrap();
    (plan, journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
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
        let dead = rustix::process::Pid::from_raw(i32::try_from(fleet.pids()[1].unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(dead, rustix::process::Signal::KILL).unwrap();
    }
    let tokens = if situation.long { (16_000, 16_001) } else { (20, 200) };
    let load = (!situation.dead).then(|| fleet.load_of(4, tokens));
    // Long answers are to be under way.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut command = Command::new(BINARY);
    command.arg("run").arg(fleet.plan_path()).arg("--deployment").arg(fleet.deployment_path()).arg("--yes");
    if !situation.approves {
        command.arg("--leave-when-held");
    }
    let mut executor =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if situation.approves {
        fleet.until("approval is wanted", |status| {
            status["status"]["phase"]["holding"]["reason"] == "approval"
        });
        assert_eq!(fleet.order("approve").status.code(), Some(0));
    }
    executor.wait().unwrap();
    let journal = records(&fleet.state());
    if let Some(load) = load {
        fleet.stop_load(load);
    }
    journal
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
        story.entry(of).or_default().push(word);
    }
    story
}

/// The kinds of facts that the policy was told.
fn facts(records: &[Record]) -> BTreeSet<String> {
    let first_word = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    let fact = |record: &Record| match &record.entry {
        Entry::Event(Event::Outcome { outcome, .. }) => {
            Some(format!("reply {}", first_word(format!("{outcome:?}"))))
        }
        Entry::Event(Event::Operator(order)) => Some(format!("order {order:?}")),
        Entry::Event(event) => Some(first_word(format!("{event:?}"))),
        _ => None,
    };
    records.iter().filter_map(fact).collect()
}

fn conforms(front: Front) {
    let (mut in_simulation, mut in_life) = (BTreeSet::new(), BTreeSet::new());
    let mut cuts = 0;
    for situation in situations() {
        let folder = tempfile::Builder::new().prefix("sw").tempdir().unwrap();
        let (plan, simulated) = simulated(&situation, front, folder.path());
        let lived = lived(&situation, front, &plan);
        let (expected, found) = (story(&simulated), story(&lived));
        assert_eq!(
            found, expected,
            "{front:?}, {}: what was lived (left) is not what was simulated",
            situation.name
        );
        let cut = |record: &&Record| {
            matches!(&record.entry, Entry::Event(Event::Outcome { outcome: Reply::Cut { .. }, .. }))
        };
        cuts += lived.iter().filter(cut).count();
        in_simulation.extend(facts(&simulated));
        in_life.extend(facts(&lived));
    }
    // Samples come every ten seconds: whether there was time for one is chance.
    let chance = |fact: &&String| matches!(fact.as_str(), "Load" | "Figure" | "ReplicaDown" | "ReplicaUp");
    let sure = |facts: &BTreeSet<String>| -> BTreeSet<String> {
        facts.iter().filter(|fact| !chance(fact)).cloned().collect()
    };
    eprintln!("{front:?}: told to the policy in both worlds: {:?}", sure(&in_life));
    assert_eq!(
        sure(&in_life),
        sure(&in_simulation),
        "{front:?}: a kind of fact that only one world (left: life) produces"
    );
    assert_eq!(cuts > 0, front != Front::Nginx, "nginx can't cut, the others do");
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
