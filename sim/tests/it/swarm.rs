//! Random small scenarios, random faults, random orders from a person: whatever happens, the rollout stays safe, comes to
//! an end or holds, and says truly where every replica stands.
//!
//! A failure prints the command that shows it again, and the scenario, which `slackwater simulate` takes as it stands.
//! `SWARM_SEED=7` runs one seed, `SWARM_CASES=100000` that many.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rand::{Rng, RngExt};
use slackwater_policy::{Entry, Note, Outcome, Phase, Record, ReplicaId, ReplicaState};
use slackwater_scenarios::{FaultKind, Keyed, Scenario};
use slackwater_sim::{
    RolloutState, RunInfo, RunOptions, Setup, TraceCursor, World, plan_for, start_offset_ps,
};

use crate::kit::ps;

const CASES: u64 = 400;
/// Seconds after which a rollout that still goes on by itself is stuck.
const LONGEST_S: f64 = 2.0 * 86_400.0;

/// One run of the swarm.
struct Case {
    toml: String,
}

impl Case {
    fn draw(seed: u64) -> Self {
        let random = &mut Keyed::new(seed).stream("swarm", &[]);
        let replicas = random.random_range(2..6_u32);
        let (strategy, spares) = strategy(random, replicas);
        let mut toml = format!("seed = {seed}\n[fleet]\nreplicas = {replicas}\nspares = {spares}\n");
        versions(&mut toml, random);
        surroundings(&mut toml, random);
        let start = random.random_range(1..100_u32);
        rollout(&mut toml, random, start);
        toml.push_str(&strategy);
        for _ in 0..random.random_range(0..4_u32) {
            fault(&mut toml, random, replicas);
        }
        for _ in 0..random.random_range(0..4_u32) {
            let at = f64::from(start) + random.random_range(0.0..600.0);
            let order = one_of(random, &["pause", "resume", "resume", "approve", "abort", "rollback"]);
            writeln!(toml, "[[orders]]\nat = {at:?}\norder = \"{order}\"").unwrap();
        }
        Self { toml }
    }

    /// Runs it; what is wrong, if anything is.
    fn check(&self, blind: bool) -> Result<String, String> {
        catch_unwind(AssertUnwindSafe(|| self.run(blind))).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", said.unwrap_or_default()))
        })
    }

    fn run(&self, blind: bool) -> Result<String, String> {
        let scenario = Scenario::parse(&self.toml, "swarm.toml").map_err(|error| error.to_string())?;
        let setup = Arc::new(Setup::new(&scenario).map_err(|error| error.to_string())?);
        let trace = Arc::new(scenario.load_traffic().map_err(|error| error.to_string())?);
        let options = RunOptions { series: false, rows: false };
        let mut world =
            World::new(setup, TraceCursor::new(trace), options).map_err(|error| error.to_string())?;
        if blind {
            world.blind_drains();
        }
        let start = start_offset_ps(scenario.rollout.start, None).map_err(|error| error.to_string())?;
        let plan = plan_for(&scenario, None, start, &[]).map_err(|error| error.to_string())?;
        world.run_until(start).map_err(|error| error.to_string())?;
        world.begin_rollout(plan).map_err(|error| error.to_string())?;
        let ended = world.run_until(ps(LONGEST_S)).map_err(|error| error.to_string())?;
        let report = world.final_report().ok_or("no report")?;
        if !ended || world.rollout_state() == Some(RolloutState::UnderWay) {
            return Err(format!("liveness: it neither ends nor holds: {report:?}"));
        }
        truthful(&world, &scenario)?;
        let (result, journal) = world.finish(RunInfo::default());
        if !(result.requests.balances() && result.attempts.balances()) {
            return Err(format!("ledgers: {:?} {:?}", result.requests, result.attempts));
        }
        if result.requests.unfinished > 0 {
            return Err(format!("{} requests never ended", result.requests.unfinished));
        }
        cuts_are_the_deadlines(&journal)?;
        Ok(result.rollout.ok_or("no rollout in the result")?.outcome)
    }
}

/// Safety condition 6, against the world as it is: every replica serves the one version, or is named with what mends it.
fn truthful(world: &World<TraceCursor>, scenario: &Scenario) -> Result<(), String> {
    let report = world.final_report().ok_or("no report")?;
    let replicas = scenario.places();
    let mut named: Vec<u16> = report
        .serving
        .iter()
        .chain(&report.empty)
        .chain(report.exceptions.iter().map(|wrong| &wrong.replica))
        .map(|id| id.0)
        .collect();
    named.sort_unstable();
    if named != (0..).take(replicas.len()).collect::<Vec<u16>>() {
        return Err(format!("condition 6: not every replica is accounted for: {report:?}"));
    }
    if let Some(vague) =
        report.exceptions.iter().find(|wrong| wrong.reason.is_empty() || wrong.mend.is_empty())
    {
        return Err(format!("condition 6: {vague:?} does not say what is wrong, or what mends it"));
    }
    let ended = matches!(report.phase, Phase::Ended { .. });
    if matches!(report.phase, Phase::Ended { outcome: Outcome::Completed | Outcome::RolledBack })
        && !report.exceptions.is_empty()
    {
        return Err(format!("condition 6: ended with exceptions: {report:?}"));
    }
    for id in &report.empty {
        let seen = world.observe(*id);
        if seen.process || seen.in_rotation {
            return Err(format!("condition 6: {id} is said to be empty, but is {seen:?}"));
        }
    }
    for id in &report.serving {
        // A rollout that is over hears of no further crash, one that holds hears of those that were noticed; and none is told
        // of a health check that goes unanswered.
        let name = &replicas[id.index()].name;
        let unheard = world.faults().iter().zip(&scenario.faults).any(|(came, fault)| {
            let noticed = |at_s: f64| ps(at_s) + fault.noticed_after().as_picos();
            let quiet = |at_s: f64| match fault.kind {
                FaultKind::ReplicaCrash | FaultKind::GpuLost => ended || noticed(at_s) >= world.now(),
                FaultKind::LostHealth => true,
                _ => false,
            };
            came.befell.iter().any(|befell| befell.replica == *name && quiet(befell.at_s))
        });
        let seen = world.observe(*id);
        let serves = seen.in_rotation && seen.healthy && seen.version == Some(report.version);
        if !serves && !unheard {
            return Err(format!(
                "condition 6: {name} is said to serve {:?}, but is {seen:?}",
                report.version
            ));
        }
    }
    Ok(())
}

/// Nobody is cut by the rollout unless a drain's time was over, as the plan says.
fn cuts_are_the_deadlines(journal: &[Record]) -> Result<(), String> {
    let mut late: BTreeMap<ReplicaId, bool> = BTreeMap::new();
    for record in journal {
        match &record.entry {
            Entry::Note(Note::State { replica, state: ReplicaState::DrainRequested, .. }) => {
                late.insert(*replica, false);
            }
            Entry::Note(Note::State { replica, state: ReplicaState::DrainTimedOut, .. }) => {
                late.insert(*replica, true);
            }
            Entry::Note(Note::Cut { replica, requests }) if late.get(replica) != Some(&true) => {
                return Err(format!(
                    "{requests} requests on {replica} were cut at {} before the drain's time was over",
                    record.at
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn one_of<T: Clone>(random: &mut impl Rng, all: &[T]) -> T {
    all[random.random_range(0..all.len())].clone()
}

/// How the fleet is moved, as lines under `[rollout]`, and how many spares that takes.
fn strategy(random: &mut impl Rng, replicas: u32) -> (String, u32) {
    let at_once = if replicas > 2 { random.random_range(1..3_u32) } else { 1 };
    let most = format!("max_unavailable = {at_once}\n");
    let keep = format!("keep_old = {}\n", one_of(random, &[0, 20, 200]));
    let compare = "compare = { warm_up = 5, blocks_min = 1, false_alarm = 0.2 }\ncompare_within = 60\n";
    match random.random_range(0..12_u32) {
        0 => ("strategy = \"canary\"\ncanary_soak = 50\n".to_owned() + &most, 0),
        1 => ("strategy = \"canary\"\ncanary_soak = 95\n".to_owned() + compare, 0),
        2 => ("strategy = \"recreate\"\naccept_downtime = true\n".to_owned(), 0),
        3 | 4 => {
            let most = one_of(random, &["", "max_unavailable = 1\n"]);
            (format!("strategy = \"surge\"\n{most}"), random.random_range(1..3_u32))
        }
        5 => (format!("strategy = \"blue-green\"\n{keep}"), replicas),
        6 => ("strategy = \"halves\"\n".to_owned(), 0),
        7 | 8 => {
            let pairs = random.random_range(1..3_u32);
            (format!("strategy = \"side-by-side\"\npairs_at_once = {pairs}\n{keep}"), 0)
        }
        9 => ("strategy = \"swap\"\n".to_owned() + &most, 0),
        _ => (most, 0),
    }
}

fn versions(toml: &mut String, random: &mut impl Rng) {
    let startup = one_of(random, &["\"10s\"", "\"1s\"", "{ median = \"10s\", p95 = \"30s\" }"]);
    let stop = one_of(random, &["0", "\"2s\"", "\"90s\""]);
    let seqs = random.random_range(2..16_u32);
    writeln!(
        toml,
        "[from]\nstop = {stop}\ngpu_release = \"1s\"\nstartup = {startup}\nwarm_up = \"2s\"\n[from.engine]\nsource = \
         \"test\"\nform = \"linear\"\nc0_ms = 20.0\nc_tok_us = 10.0\nc_seq_us = 100.0\nmax_num_seqs = {seqs}\nmax_num_batched_tokens = \
         512\nblock_size = 16\nkv_blocks = 400\nscheduling = \"{}\"\nprefix_caching = {}",
        one_of(random, &["sync", "async"]),
        random.random_bool(0.3)
    )
    .unwrap();
    let (length, pace) = (random.random_range(0.5..3.0), random.random_range(0.5..2.0));
    writeln!(toml, "[to]\noutput_length_factor = {length:?}\nstep_time_factor = {pace:?}").unwrap();
    if random.random_bool(0.1) {
        toml.push_str("passes_evaluation = false\n");
    }
    if random.random_bool(0.2) {
        let silent = one_of(random, &["share = 0.7", "median = 100\nsigma = 1.0\nrequests = 0.5"]);
        writeln!(toml, "[{}.silent_tokens]\n{silent}", one_of(random, &["from", "to"])).unwrap();
    }
}

fn surroundings(toml: &mut String, random: &mut impl Rng) {
    let policy = one_of(
        random,
        &[
            "round-robin",
            "least-connections",
            "random-two-choices",
            "nginx-least-conn",
            "haproxy-leastconn",
            "haproxy-leastconn\"\nslow_start = \"90s",
            "prefix-aware",
        ],
    );
    let sticky = one_of(random, &["none", "none", "session", "version"]);
    writeln!(toml, "[router]\npolicy = \"{policy}\"\nsticky = \"{sticky}\"").unwrap();
    if random.random_bool(0.3) {
        writeln!(toml, "read_timeout = {:?}", random.random_range(1.0..20.0)).unwrap();
    }
    let (timeout, retries) = (random.random_range(2.0..120.0), random.random_range(0..4_u32));
    let more = one_of(
        random,
        &[
            "",
            "",
            ", backoff = 0",
            ", backoff = 0, after_first_token = true",
            ", budget = 0.2, after_first_token = true",
        ],
    );
    writeln!(toml, "[clients]\ntimeout = {timeout:?}\nretries = {{ max = {retries}{more} }}").unwrap();
    let duration = random.random_range(150..600_u32);
    let rate = random.random_range(0.05..2.0);
    writeln!(
        toml,
        "[traffic.generate]\nduration = {duration}\nrate_per_s = {rate:?}\nmax_input_tokens = 400\nmax_output_tokens = \
         {}",
        one_of(random, &[20, 200, 1500])
    )
    .unwrap();
    if random.random_bool(0.3) {
        let turns = one_of(random, &["{ fixed = 3 }", "{ geometric = 4 }"]);
        writeln!(toml, "[traffic.generate.sessions]\nturns = {turns}\nthink = \"20s\"").unwrap();
    }
}

fn rollout(toml: &mut String, random: &mut impl Rng, start: u32) {
    writeln!(
        toml,
        "[rollout]\nstart = {start}\nsoak = {:?}\ndrain_timeout = {:?}\nat_deadline = \
         {}\nin_flight_poll = {:?}\nzero_sightings = {}\ngpu_release_timeout = 30\nstart_attempts = {}\nhealth = {{ \
         timeout = {} }}\non_failure = \"{}\"\nstop_timeout = {}",
        one_of(random, &[0.0, 5.0, 40.0]),
        one_of(random, &[0.5, 10.0, 60.0]),
        one_of(
            random,
            &[
                "\"cut\"",
                "\"abort\"",
                "{ extend = { to = 90, then = \"cut\" } }",
                "{ extend = { to = 90, then = \"abort\" } }"
            ]
        ),
        one_of(random, &[0.3, 1.0, 3.0]),
        random.random_range(2..4_u32),
        random.random_range(1..4_u32),
        one_of(random, &[5, 25, 120]),
        one_of(random, &["rollback", "hold"]),
        one_of(random, &[1, 30]),
    )
    .unwrap();
    for (chance, line) in [
        (0.15, "gate = { capacity_per_replica = 0.5, give_up = 60 }"),
        (0.15, "window = 300"),
        (0.2, "approval = \"each_move\"\napproval_delay = 7"),
        (0.2, "guard = { max_error_share = 0.2, over = \"60s\" }"),
        (0.15, "ramp = { from = 20, steps = 3, over = 30 }"),
        (0.2, "quality = { live = true, replicas = \"each\", takes = 15 }"),
    ] {
        if random.random_bool(chance) {
            writeln!(toml, "{line}").unwrap();
        }
    }
}

fn fault(toml: &mut String, random: &mut impl Rng, replicas: u32) {
    let replica = format!("replica = \"replica-{}\"\n", random.random_range(0..replicas));
    let of = format!("of = \"replica-{}\"\n", random.random_range(0..replicas));
    let at = format!("at = {:?}\n", random.random_range(0.0..700.0));
    let maybe = |random: &mut _, text: String| if flip(random) { text } else { String::new() };
    let nth = format!("nth = {}\n", random.random_range(1..4_u32));
    let version = format!("version = \"{}\"\n", one_of(random, &["from", "to"]));
    let place = maybe(random, replica.clone()) + &maybe(random, nth) + &maybe(random, version);
    let point = one_of(random, &["drain", "stopped", "starting", "warm-up", "soak"]);
    let moment = match random.random_range(0..3_u32) {
        0 => format!("{replica}{at}"),
        1 => format!("{replica}at = {{ between = [10, {:?}] }}\n", random.random_range(20.0..700.0)),
        _ => format!("{}during = \"{point}\"\n{}", maybe(random, replica), maybe(random, of)),
    };
    let lasts = format!("for = {:?}\n", random.random_range(1.0..300.0));
    let noticed = random.random_range(0.5..20.0);
    let (kind, keys) = match random.random_range(0..10_u32) {
        0 => {
            let back = format!("back_after = {:?}\n", noticed + random.random_range(0.1..120.0));
            let back = maybe(random, back);
            ("replica-crash", format!("{moment}noticed_after = {noticed:?}\n{back}"))
        }
        1 => ("start-failure", place),
        2 => ("never-healthy", place),
        3 => ("slow-start", format!("{place}factor = {:?}\n", one_of(random, &[0.1, 3.0, 50.0]))),
        4 => ("gpu-memory-lingers", format!("{place}for = {:?}\n", one_of(random, &[5.0, 40.0, 3000.0]))),
        5 => {
            let share = one_of(random, &[0.05, 0.3, 1.0]);
            let until = maybe(random, "until = 1000\n".to_owned());
            ("lost-replies", format!("share = {share:?}\n{at}{until}"))
        }
        6 => ("stuck-in-flight", moment),
        7 => {
            let factor = one_of(random, &[0.5, 3.0, 20.0]);
            ("slow-gpu", format!("{moment}factor = {factor:?}\n{}", maybe(random, lasts)))
        }
        8 => ("lost-health", format!("{moment}noticed_after = {noticed:?}\n{}", maybe(random, lasts))),
        _ => ("gpu-lost", format!("{moment}noticed_after = {noticed:?}\n")),
    };
    write!(toml, "[[faults]]\nkind = \"{kind}\"\n{keys}").unwrap();
}

fn flip(random: &mut impl Rng) -> bool {
    random.random_bool(0.5)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn whatever_happens_the_rollout_is_safe_ends_or_holds_and_tells_the_truth() {
    let seeds = match number("SWARM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SWARM_CASES").unwrap_or(CASES),
    };
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in seeds.clone() {
        let case = Case::draw(seed);
        match case.check(false) {
            Ok(outcome) => {
                let kind = outcome.split(':').next().unwrap_or_default().to_owned();
                *outcomes.entry(kind).or_default() += 1;
            }
            Err(wrong) => failures.push((seed, wrong, case)),
        }
    }
    println!("{outcomes:?}");
    let again =
        |seed: &u64| format!("SWARM_SEED={seed} cargo test -p slackwater-sim --test it whatever_happens");
    for (seed, wrong, _) in &failures {
        println!("{}\n  {wrong}", again(seed));
    }
    if let Some((seed, wrong, case)) = failures.first() {
        panic!(
            "{} of {} fail; see the first again with\n\n{}\n\n{wrong}\n\n{}",
            failures.len(),
            seeds.count(),
            again(seed),
            case.toml
        );
    }
    if number("SWARM_SEED").is_none() {
        // A swarm that meets only one end tests little.
        for kind in ["completed", "rolled_back", "aborted", "held"] {
            assert!(outcomes.contains_key(kind), "none {kind}: {outcomes:?}");
        }
    }
}

/// The net has no hole where it matters most: in a world whose counts always say zero, requests are cut, and it is seen.
#[test]
fn a_world_that_says_drained_too_early_is_caught() {
    let caught = (0..100).filter(|seed| {
        let wrong = Case::draw(*seed).check(true).err();
        wrong.is_some_and(|wrong| wrong.contains("before the drain's time was over"))
    });
    let caught = caught.count();
    assert!(caught >= 10, "{caught} of 100");
}
