//! Models that think in silence, and a balancer that takes silence for death.

use crate::kit::{Outcome, Run, Spec, near, outcome, trace};

/// A step takes 10 ms and a token each; 800 of 1000 tokens are silent. The request is sent at 1 s, so the k-th token is there
/// at 1 s + k * 10 ms, and the first that can be seen at 9.01 s.
fn thinking(read_timeout: f64, retries: &str, faults: &str) -> Run {
    let spec = Spec {
        router: format!("read_timeout = {read_timeout:?}"),
        clients: format!("timeout = \"30d\"\nretries = {{ {retries} }}"),
        to: "[from.silent_tokens]\nshare = 0.8".to_owned(),
        faults: faults.to_owned(),
        ..Spec::default()
    };
    spec.run(&trace([(1.0, 10, 1000)]))
}

#[test]
fn silence_longer_than_the_read_time_out_is_cut_and_no_shorter_one() {
    for (read_timeout, expected) in [
        (5.0, Outcome::TimedOut),
        (8.0, Outcome::TimedOut),
        (8.01, Outcome::TimedOut),
        // At 9.02 s the token of 9.01 s has been seen.
        (8.02, Outcome::Completed),
        (20.0, Outcome::Completed),
    ] {
        let run = thinking(read_timeout, "max = 0", "");
        assert_eq!(outcome(&run.rows[0]), expected, "{read_timeout}");
        let cut = u64::from(expected == Outcome::TimedOut);
        assert_eq!(run.result.retries.read_timed_out, cut);
        assert_eq!(run.result.attempts.timed_out, cut);
        near(run.rows[0].e2e_s, if cut == 1 { read_timeout } else { 10.0 });
    }
}

/// The cut is one the client has seen nothing before, so it tries again, in vain: each time the same silence.
#[test]
fn what_was_silent_is_tried_again() {
    let run = thinking(5.0, "max = 2, backoff = 1, multiplier = 1, jitter = 0", "");
    assert_eq!(run.rows[0].attempts, 3);
    near(run.rows[0].e2e_s, 3.0 * 5.0 + 2.0);
    // The engine's time is spent all the same.
    assert_eq!(run.result.steps, 3 * 500);
    let crash = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = 6\nnoticed_after = 1\nback_after = 3\n";
    let run = thinking(20.0, "max = 2, backoff = 4, multiplier = 1, jitter = 0", crash);
    assert_eq!((run.rows[0].attempts, outcome(&run.rows[0])), (2, Outcome::Completed));
}

/// TTFT is to the first token generated, as the engines' own metrics have it.
#[test]
fn latencies_count_silent_tokens() {
    let run = thinking(20.0, "max = 0", "");
    near(run.rows[0].ttft_s.unwrap(), 0.01);
    near(run.rows[0].e2e_s, 10.0);
}

/// Half of the requests think; the draw is the request's own.
#[test]
fn a_share_of_the_requests_thinks() {
    let run = |share: &str| {
        let spec = Spec {
            router: "read_timeout = 0.5".to_owned(),
            clients: "retries = { max = 0 }".to_owned(),
            to: format!("[from.silent_tokens]\nmedian = 90\nsigma = 0.1\nrequests = {share}"),
            ..Spec::default()
        };
        let run = spec.run(&trace((0..400).map(|number| (f64::from(number), 1, 200))));
        run.rows.iter().map(|row| outcome(row) == Outcome::TimedOut).collect::<Vec<_>>()
    };
    let all = run("1.0");
    assert!(all.iter().all(|cut| *cut), "a median of 90 tokens is 0.9 s, far over 0.5 s");
    let half = run("0.5");
    let cut = half.iter().filter(|cut| **cut).count();
    assert!((160..240).contains(&cut), "{cut} of 400");
    let fewer = run("0.2");
    assert!(fewer.iter().zip(&half).all(|(few, half)| !few || *half), "those who think at 0.2 do so at 0.5");
}
