//! A stand-in whose coefficients are known, measured over HTTP.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a failed test may panic, and says what it measured

mod passive;
mod startup;

use std::time::Duration;

use slackwater_calibrate::{Known, Part, fit_requests, held_out};
use slackwater_measure::{Budget, Server, measure, phases};
use slackwater_replica::{Options, Profile, Server as StandIn};

/// Coefficients of a fast engine, so that a short load shows all of them.
const PROFILE: &str = r#"
source = "made up for this test"
c0_ms = 9.0
c_tok_us = 60.0
c_seq_us = 90.0
c_kv_us = 0.06
c_attn_us_per_token2 = 0.004
kv_blocks = 20000
max_num_seqs = 128
scheduling = "async"
front_end = { inbound_ms = 3.0, outbound_ms = 3.0, jitter = 0.2 }
"#;

/// The whole way, on any machine: one that is busy with something else answers late, and is measured so.
#[test]
fn a_stand_in_is_measured_over_http() {
    measured(1.5, Duration::from_secs(40));
}

/// On a quiet machine: what is called identified is within 5 %.
#[test]
#[ignore = "needs a machine with nothing else to do"]
fn a_stand_in_gives_back_what_it_was_made_with() {
    let identified = measured(1.05, Duration::from_secs(120));
    assert!(identified >= 1, "{identified} coefficients are identified");
}

/// Loads of two tests at once would be measured as one.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// How many coefficients are called identified; those are within this factor of the truth.
fn measured(within: f64, lasts: Duration) -> usize {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("engine.toml");
    std::fs::write(&file, PROFILE).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (recorded, server) = runtime.block_on(async {
        let profile = Profile::find(file.to_str().unwrap()).unwrap();
        let stand_in = StandIn::start(Options::new("chat", profile)).await.unwrap();
        let server = Server::ask(&format!("http://{}", stand_in.address())).await.unwrap();
        let budget = Budget {
            lasts,
            max_rate: None,
            most_at_once: 96,
            longest: 6000.min(server.max_model_len.unwrap()),
        };
        let measured = measure(&server, budget.lasts, 1, |alone_s| phases(&budget, alone_s), &|_| {}).await;
        (measured.unwrap(), server)
    });
    assert_eq!(server.kv, Some((20_001, 16)));
    let mut recorded = recorded;
    recorded.experiment.about.max_num_seqs = Some(128);
    recorded.experiment.about.max_num_batched_tokens = Some(2048);
    let part = Part { experiment: &recorded.experiment, fitted: recorded.fitted.clone() };
    let fitted = fit_requests(std::slice::from_ref(&part), 1, &|_| {}).unwrap();
    println!("{:#?}", fitted.coefficients);
    let mut identified = 0;
    for estimate in &fitted.coefficients {
        let truth = match estimate.name {
            "c0_ms" => 9.0,
            "c_tok_us" => 60.0,
            "c_seq_us" => 90.0,
            "c_kv_us" => 0.06,
            "c_attn_us_per_token2" => 0.004,
            _ => continue,
        };
        if estimate.known == Known::Identified {
            identified += 1;
            let off = (estimate.value / truth).ln().abs().exp();
            assert!(off < within, "{} is called identified and is off by a factor {off}", estimate.name);
        }
    }
    assert!(recorded.fitted.len() > 200, "{} requests were measured", recorded.fitted.len());
    let rest = held_out(&part, &fitted.profile, 1).unwrap().unwrap();
    let (measured, predicted) = (rest.measured.e2e_s.unwrap(), rest.predicted.e2e_s.unwrap());
    assert!((predicted.mean / measured.mean).ln().abs() < 0.5, "{rest:?}");
    identified
}
