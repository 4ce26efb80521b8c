//! The sentence says what happened, also when it is sad.

use slackwater_reports::{Standing, verdict, verdict_sentence};
use slackwater_sim::SimulationResult;

use crate::FOUR;

/// The four-replica hour with its figures set to round ones.
fn told(kept: bool, without: Option<bool>) -> SimulationResult {
    let mut result = FOUR.clone();
    let set = |r: &mut SimulationResult, kept: bool| {
        r.service.kept = kept;
        r.service.attainment = if kept { 0.997 } else { 0.951 };
        r.service.worst_5min_attainment = if kept { 0.992 } else { 0.9 };
    };
    set(&mut result, kept);
    result.requests.arrived = 19_366;
    for phase in &mut result.phases {
        let (ttft, tpot) = if phase.name == "before" { (0.21, 0.03) } else { (0.3, 0.035) };
        phase.ttft_s.p99 = Some(ttft);
        phase.tpot_s.p99 = Some(tpot);
        phase.e2e_s.p99 = Some(20.0);
    }
    result.phases[2].ttft_s.p99 = Some(0.34);
    result.rollout.as_mut().expect("a rollout").below_n_s = 700.0;
    match (without, &mut result.baseline) {
        (Some(kept), Some(baseline)) => set(baseline, kept),
        _ => result.baseline = None,
    }
    result
}

#[test]
fn kept() {
    assert_eq!(
        verdict_sentence(&told(true, Some(true))),
        "Rolling 20 min into the traffic would have kept the SLO: 0 of 19,366 requests cut; p99 TTFT 0.21 s before, 0.34 s during the \
         worst move; 11 min 40 s on 3 of 4 replicas."
    );
    assert_eq!(verdict(&told(true, Some(true))).standing, Standing::Kept);
}

#[test]
fn missed_only_with_the_rollout() {
    let verdict = verdict(&told(false, Some(true)));
    assert_eq!(verdict.standing, Standing::Missed);
    assert!(
        verdict.sentence.starts_with(
            "Rolling 20 min into the traffic would have broken the SLO, which is kept without it: 95.1 % met it (99 % promised, 99.7 % \
             without the rollout): "
        ),
        "{}",
        verdict.sentence
    );
}

#[test]
fn missed_without_any_rollout() {
    let verdict = verdict(&told(false, Some(false)));
    assert_eq!(verdict.standing, Standing::MissedAnyway);
    assert!(
        verdict
            .sentence
            .starts_with("The SLO is missed even without a rollout (95.1 % met it, 99 % promised)"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn five_bad_minutes_in_a_good_whole_are_named() {
    let mut result = told(false, Some(true));
    result.service.attainment = 0.995;
    assert!(verdict_sentence(&result).contains("99.5 % met it, but only 90 % in the worst 5 minutes"));
}

#[test]
fn nothing_to_compare_with_is_said() {
    assert!(verdict_sentence(&told(false, None)).contains("no run without a rollout to compare with"));
}

#[test]
fn cuts_and_other_failures_are_counted() {
    let mut result = told(true, Some(true));
    (result.requests.cut, result.requests.timed_out, result.requests.rejected) = (12, 3, 4_000);
    result.attempts.cut = 13;
    let verdict = verdict(&result);
    assert_eq!(verdict.standing, Standing::KeptAtACost);
    assert!(
        verdict.sentence.contains(
            "12 of 19,366 requests cut (1 attempt more, answered or failed on a retry); 3 timed out, 4,000 rejected"
        ),
        "{}",
        verdict.sentence
    );
}

#[test]
fn the_latency_that_broke_the_level_is_named() {
    let mut result = told(false, Some(true));
    result.phases[2].tpot_s.p99 = Some(0.055);
    assert!(verdict_sentence(&result).contains("p99 TPOT 30 ms before, 55 ms during (bound 50 ms)"));
}

#[test]
fn held_aborted_and_rolled_back_are_said() {
    for (outcome, said) in [
        ("held: window ends", "and the rollout held (window ends) with 4 of 4 begun moves back in rotation"),
        ("held", "and the rollout held (no reason recorded)"),
        ("aborted", "and the rollout was aborted with 4 of 4"),
        ("rolled_back", "and the rollout was rolled back"),
    ] {
        let mut result = told(true, Some(true));
        result.rollout.as_mut().expect("a rollout").outcome = outcome.into();
        assert!(verdict_sentence(&result).contains(said), "{}", verdict_sentence(&result));
        assert_eq!(verdict(&result).standing, Standing::KeptAtACost);
    }
}

#[test]
fn no_rollout_is_judged_as_it_is() {
    let mut result = told(true, None);
    result.rollout = None;
    let verdict = verdict(&result);
    assert_eq!(verdict.standing, Standing::Kept);
    assert!(
        verdict.sentence.starts_with("Without a rollout the SLO is kept: 99.7 % of"),
        "{}",
        verdict.sentence
    );
}

/// A number that nobody measured is not passed on as one that was.
#[test]
fn a_preset_is_named() {
    let mut result = told(true, Some(true));
    let plain = verdict(&result);
    result.fleet.to.1 = "roofline preset of llama-3.1-8b in bf16 on L4: data sheet".into();
    let named = verdict(&result);
    assert_eq!(named.standing, plain.standing);
    assert_eq!(
        named.sentence,
        format!(
            "{} This rests on a preset: the new version's engine speed is a roofline preset, not measured.",
            plain.sentence
        )
    );
    result.fleet.from.1 =
        "llama-3.1-8b in bf16 on L4 with c0_ms set in the scenario; roofline preset of it".into();
    assert!(verdict_sentence(&result).ends_with("engine speeds are roofline presets, not measured."));
    result.rollout = None;
    assert!(verdict_sentence(&result).ends_with("the engine speed is a roofline preset, not measured."));
    // What is known of such presets' errors goes with it.
    let error = "off in TPOT by a median of 11 % (p90 26 %) and in TTFT by 21 % (p90 50 %) on models it was not fitted to";
    result.fleet.from.1 =
        format!("roofline preset of it; not measured; presets like it were {error} (Hopper, fp8)");
    assert!(
        verdict_sentence(&result)
            .ends_with(&format!("is a roofline preset, not measured; presets like it were {error}.")),
        "{}",
        verdict_sentence(&result)
    );
}
