//! The comparison that the policy makes itself: what it does with evidence, and when.

use slackwater_policy::{
    Block, Compare, CompareSpec, Compared, Event, EventError, HoldReason, Note, Operator, Outcome, Phase,
    Plan, Rollout, StrategySpec, Verdict, VersionRef, fold,
};

use crate::happy::plan;
use crate::world::{Fate, Run, at, secs};

const AS_GOOD: Block = Block { ttft: Some(0.5), tpot: Some(0.5), errors: Some(0.0) };
const WORSE: Block = Block { ttft: Some(0.5), tpot: Some(0.95), errors: Some(0.0) };

fn measured(spec: CompareSpec) -> Plan {
    let mut plan = plan(3);
    plan.strategy = StrategySpec::Canary {
        canary: None,
        canary_soak: secs(600),
        compare: Some(Compare::Measured(spec)),
        compare_within: secs(300),
        max_unavailable: 1,
        order: Vec::new(),
    };
    plan
}

/// Runs on, with a block of evidence every 30 s, until it ends, comes to hold, or `within` is over.
fn fed(run: &mut Run, block: Block, within: u64) {
    let end = run.world.now + secs(within);
    while run.world.now < end && run.rollout.outcome().is_none() {
        let next = run.world.now + secs(30);
        run.world.schedule(next, Event::Tick);
        run.run_until(|run| run.world.now >= next);
        if matches!(run.rollout.phase(), Phase::Holding { settled: true, .. }) {
            return;
        }
        run.tell(Event::Evidence { block }, &mut |_| Fate::Usual);
    }
}

fn started(plan: &Plan) -> Run {
    let mut run = Run::new(plan.clone());
    run.world.start_takes = secs(10);
    run
}

fn words(run: &Run) -> Vec<(Verdict, Option<Compared>, u32)> {
    let report = fold(run.rollout.plan(), &run.records);
    let words = report.notes.iter().filter_map(|timed| match timed.note {
        Note::Compared { verdict, worse, blocks, .. } => Some((verdict, worse, blocks)),
        _ => None,
    });
    words.collect()
}

#[test]
fn a_canary_as_good_as_the_old_passes_when_its_soak_is_over() {
    let mut run = started(&measured(CompareSpec { blocks_min: 10, ..CompareSpec::default() }));
    fed(&mut run, AS_GOOD, 10_000);
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(run.all_serve(VersionRef::To));
    assert_eq!(words(&run), [(Verdict::Pass, None, 10)]);
    let moves = fold(run.rollout.plan(), &run.records).moves;
    assert!(
        moves[1].started_at.since(moves[0].admitted_at.unwrap()) >= secs(600),
        "not before the soak is over"
    );
    assert_eq!(Rollout::replay(run.rollout.plan().clone(), &run.records).unwrap(), run.rollout);
}

#[test]
fn a_worse_canary_is_rolled_back_at_once_and_alone() {
    let mut run = started(&measured(CompareSpec::default()));
    fed(&mut run, WORSE, 10_000);
    assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
    assert!(run.all_serve(VersionRef::From));
    let (verdict, worse, blocks) = words(&run)[0];
    assert_eq!((verdict, worse), (Verdict::Fail, Some(Compared::Tpot)));
    assert!(blocks < 20, "long before the soak was over: {blocks}");
    let starts: Vec<u32> = run.world.real.iter().map(|real| real.starts).collect();
    assert_eq!(starts, [2, 0, 0]);
}

#[test]
fn evidence_of_cold_caches_and_of_no_canary_does_not_count() {
    let mut run =
        started(&measured(CompareSpec { warm_up: secs(400), blocks_min: 5, ..CompareSpec::default() }));
    fed(&mut run, WORSE, 380);
    assert!(words(&run).is_empty() && run.rollout.outcome().is_none());
    fed(&mut run, AS_GOOD, 10_000);
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
}

#[test]
fn too_little_evidence_holds_until_there_is_more_or_a_person_decides() {
    let mut run = started(&measured(CompareSpec { blocks_min: 40, ..CompareSpec::default() }));
    fed(&mut run, AS_GOOD, 10_000);
    assert!(matches!(run.rollout.phase(), Phase::Holding { reason: HoldReason::Comparison, .. }));
    let mut resumed = run.clone();
    resumed.order(Operator::Resume).run();
    assert_eq!(resumed.rollout.outcome(), Some(Outcome::Completed));
    // More evidence, late.
    for _ in 0..40 {
        run.tell(Event::Evidence { block: AS_GOOD }, &mut |_| Fate::Usual);
    }
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
}

#[test]
fn a_word_from_outside_is_not_asked_for() {
    for verdict in [Verdict::Pass, Verdict::Fail] {
        let mut run = started(&measured(CompareSpec::default()));
        run.world.schedule(at(200), Event::Tick);
        run.run_until(|run| run.world.now >= at(200));
        run.tell(Event::Comparison { verdict }, &mut |_| Fate::Usual);
        run.run();
        assert!(matches!(run.rollout.phase(), Phase::Holding { reason: HoldReason::Comparison, .. }));
    }
}

#[test]
fn a_block_that_is_none_is_refused() {
    let mut rollout = Rollout::new(measured(CompareSpec::default())).unwrap();
    let now = slackwater_policy::Time::from_secs(1);
    rollout.handle(now, Event::Start).unwrap();
    while rollout.poll().is_some() {}
    let block = Block { ttft: Some(f64::NAN), ..AS_GOOD };
    let refused = rollout.handle(now, Event::Evidence { block });
    assert!(matches!(refused, Err(EventError::BadBlock { .. })));
}

#[test]
fn a_plan_says_it_in_words_and_wrong_words_are_refused() {
    let plan = measured(CompareSpec { tpot_ratio: 1.2, ..CompareSpec::default() });
    let text = toml::to_string(&plan).unwrap();
    assert!(text.contains("by = \"measured\""), "{text}");
    assert_eq!(toml::from_str::<Plan>(&text).unwrap(), plan);
    for (spec, key) in [
        (CompareSpec { ttft_ratio: 0.0, ..CompareSpec::default() }, "ttft_ratio"),
        (CompareSpec { tpot_ratio: f64::NAN, ..CompareSpec::default() }, "tpot_ratio"),
        (CompareSpec { error_margin: 1.0, ..CompareSpec::default() }, "error_margin"),
        (CompareSpec { false_alarm: 0.0, ..CompareSpec::default() }, "false_alarm"),
        (CompareSpec { blocks_min: 0, ..CompareSpec::default() }, "blocks_min"),
    ] {
        let refused = Rollout::new(measured(spec)).unwrap_err().to_string();
        assert!(refused.contains(key), "{refused}");
    }
}
