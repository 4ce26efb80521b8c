//! What measured engines are given, against what they were measured on: counted by hand.

use std::sync::Arc;

use slackwater_engine::Ps;
use slackwater_scenarios::traffic::SharedTrace;
use slackwater_sim::{EngineReach, Reached, Setup, TraceCursor, World};

use crate::kit::{Run, Spec, WITH_ROWS, ps, trace};

/// Measured with prompts of 100 tokens, contexts of 150, two requests at once.
const CALIBRATED: &str = "[from.engine.calibration]\ndate = \"2026-11-23\"\nrequests = 300\nprompt_tokens_up_to = 100\n\
    context_tokens_up_to = 150\nin_flight_up_to = 2\nhold_out = { requests = 40, ttft_mean = 0.05, tpot_mean = -0.02, e2e_mean = 0.01 }\n";

fn measured(rest: &str) -> Spec {
    Spec { replicas: 2, faults: CALIBRATED.to_owned() + rest, ..Spec::default() }
}

/// 20 s apart, each beyond in one way or none; then three at once, of which the balancer gives one replica two.
fn requests() -> Arc<SharedTrace> {
    trace([
        (0.0, 100, 50),
        (20.0, 101, 10),
        (40.0, 100, 51),
        (60.0, 10, 100),
        (60.0, 10, 100),
        (60.0, 10, 100),
        (60.0, 10, 100),
        (60.0, 10, 100),
        (200.0, 10, 10),
    ])
}

const LATER: Ps = 50_000_000_000_000;

#[test]
fn every_way_beyond_is_counted() {
    let run = measured("").run(&requests());
    let expected = EngineReach {
        versions: vec!["old".to_owned()],
        requests: 9,
        beyond: 3,
        prompt_tokens: Reached { measured: 100, met: 101, beyond: 1 },
        context_tokens: Reached { measured: 150, met: 151, beyond: 1 },
        // Five on two replicas: the fifth is the third of its replica.
        in_flight: Reached { measured: 2, met: 3, beyond: 1 },
    };
    assert_eq!(run.result.reach, std::slice::from_ref(&expected));
    let words = expected.in_words().unwrap();
    for part in ["engine of old", "up to 100 and meets up to 101", "up to 150", "1.5 times as many (11.11 %"]
    {
        assert!(words.contains(part), "{words}");
    }
    // A third of the requests is beyond: a level that lets half of them miss has a tenth of that to spare, a twentieth.
    assert!(expected.voids_a_promise(0.5) && !EngineReach { requests: 61, ..expected }.voids_a_promise(0.5));
    assert_eq!(
        run.result.fleet.known,
        [
            "the engine of old was measured on 2026-11-23, and off by +5.0 % in TTFT, -2.0 % in TPOT and +1.0 % in E2E, the means of 40 \
          requests that were held out of its fit"
        ]
    );

    // Nothing else is another for it.
    let plain = Spec { replicas: 2, ..Spec::default() }.run(&requests());
    assert!(plain.result.reach.is_empty() && plain.result.fleet.known.is_empty());
    assert_eq!((plain.result.hash, plain.rows), (run.result.hash, run.rows));
    // A measurement that does not say how far it reached has no bounds to leave.
    let unknown =
        CALIBRATED.replace("= 100\n", "= 0\n").replace("= 150\n", "= 0\n").replace("= 2\n", "= 0\n");
    let unknown = Spec { replicas: 2, faults: unknown, ..Spec::default() }.run(&requests());
    assert_eq!((unknown.result.reach[0].beyond, unknown.result.reach[0].in_words()), (0, None));
}

#[test]
fn versions_of_one_measurement_are_one_engine() {
    let both = measured("").roll(&requests(), LATER);
    assert_eq!(both.result.reach.len(), 1, "{:?}", both.result.reach);
    assert_eq!(both.result.reach[0].versions, ["old", "new"]);
    assert_eq!(both.result.reach[0].requests, both.result.attempts.sent);

    let other =
        "[to.engine]\nsource = \"x\"\nc0_ms = 10\nc_tok_us = 0\nkv_blocks = 65536\nblock_size = 1024\n";
    let old_only = measured(other).roll(&requests(), LATER);
    let [old] = &old_only.result.reach[..] else { panic!("{:?}", old_only.result.reach) };
    assert_eq!(old.versions, ["old"]);
    assert!(old.requests < old_only.result.attempts.sent, "the new version was given some");
}

#[test]
fn a_trial_counts_from_its_start() {
    let spec = measured("");
    let setup = Arc::new(Setup::new(&spec.scenario()).unwrap());
    let mut lean = World::lean(setup, TraceCursor::new(requests())).unwrap();
    lean.run_until(LATER).unwrap();
    assert_eq!(lean.engine_reach()[0].requests, 3);
    lean.begin_rollout(spec.plan(LATER)).unwrap();
    lean.run_until(ps(3600.0)).unwrap();
    let trial = lean.trial().unwrap();
    assert_eq!((trial.reach[0].requests, trial.reach[0].prompt_tokens.met), (6, 10));
    let whole = Run::of(spec.rolling(&requests(), LATER, WITH_ROWS));
    assert_eq!(whole.result.reach[0].requests, 9, "a whole run is of all its traffic");
    let twice = EngineReach::together([&trial.reach[..], &whole.result.reach[..]]);
    assert_eq!((twice.len(), twice[0].requests, twice[0].prompt_tokens.met), (1, 15, 101));
}
