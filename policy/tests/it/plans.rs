//! The plan file: reading, writing, and what is refused.

use slackwater_policy::{
    AtDeadline, CapacityRow, Figure, Guard, GuardAction, Plan, Span, StrategySpec, Then, Window,
};

use crate::happy::plan;
use crate::world::{at, secs};

#[test]
fn a_short_file_is_enough() {
    let text = r#"
        schema = "slackwater.plan/1"
        from.name = "llama-3.1"
        to.name = "llama-3.3"
        replicas = [{ name = "r0", gpus = [0] }, { name = "r1", gpus = [1] }]
        windows = [{ opens = "2026-03-01T02:00:00Z", closes = "2026-03-01T06:00:00+01:00" }]

        [strategy]
        kind = "rolling"

        [rollout]
        move_expected = "6m30s"
        soak = 90
        drain = { timeout = "1h30m", at_deadline = { action = "extend", hard_limit = "2h", then = "abort" } }
    "#;
    let plan: Plan = toml::from_str(text).unwrap();
    plan.validate().unwrap();
    assert_eq!(plan.rollout.move_expected, secs(390));
    assert_eq!(plan.rollout.soak, secs(90));
    assert_eq!(
        plan.rollout.drain.at_deadline,
        AtDeadline::Extend { hard_limit: secs(7_200), then: Then::Abort }
    );
}

#[test]
fn plans_round_trip() {
    let mut plan = plan(3);
    plan.windows = vec![Window::new(at(0), at(4_000))];
    plan.rollout.move_expected = secs(700);
    plan.rollout.admit_weight = Some(50);
    plan.rollout.drain.at_deadline = AtDeadline::Extend { hard_limit: secs(999), then: Then::Cut };
    plan.gate.capacity = vec![CapacityRow { serving: 2, rate: 12.5 }];
    plan.guards = vec![Guard {
        figure: Figure::ErrorRate,
        limit: 0.1,
        sustained: secs(30),
        action: GuardAction::RollBack,
    }];
    plan.slo.ttft_s = Some(2.0);
    plan.expected.load = Some(Span::from_millis(61_500));
    plan.inputs.insert("trace".to_owned(), "sha256:00".to_owned());
    let text = toml::to_string(&plan).unwrap();
    assert!(text.contains("move_expected = \"11m40s\"") && text.contains("load = \"1m1s500ms\""), "{text}");
    assert_eq!(toml::from_str::<Plan>(&text).unwrap(), plan);
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

#[test]
fn unknown_keys_are_errors() {
    let mut text = toml::to_string(&plan(2)).unwrap();
    text.push_str("\n[rolout]\nsoak = \"1s\"\n");
    assert!(toml::from_str::<Plan>(&text).unwrap_err().to_string().contains("rolout"));
}

#[test]
fn what_is_refused_and_what_to_do() {
    let refuse = |change: &dyn Fn(&mut Plan), words: &str| {
        let mut plan = plan(3);
        change(&mut plan);
        let error = plan.validate().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(slackwater_policy::Rollout::new(plan).is_err());
    };
    plan(3).validate().unwrap();
    refuse(&|plan| plan.schema = "slackwater.plan/0".to_owned(), "slackwater.plan/1");
    refuse(&|plan| plan.replicas.truncate(1), "add a replica, or accept downtime");
    refuse(&|plan| plan.replicas.clear(), "replicas has 0 entries");
    for k in [0, 3, 9] {
        let rolling = StrategySpec::Rolling { max_unavailable: k, order: Vec::new() };
        refuse(&|plan| plan.strategy = rolling.clone(), "strategy.max_unavailable");
    }
    let order = StrategySpec::Rolling { max_unavailable: 1, order: vec!["r9".to_owned()] };
    refuse(&|plan| plan.strategy = order.clone(), "strategy.order is r9");
    refuse(&|plan| plan.replicas[1].name = "r0".to_owned(), "replicas[1].name");
    refuse(&|plan| plan.replicas[1].gpus = vec![0], "replicas[1].gpus");
    refuse(&|plan| plan.windows = vec![Window::new(at(0), at(60))], "rollout.move_expected");
    refuse(
        &|plan| {
            plan.rollout.move_expected = secs(90);
            plan.windows = vec![Window::new(at(0), at(60))];
        },
        "windows[0]",
    );
    refuse(&|plan| plan.rollout.drain.zeroes = 1, "rollout.drain.zeroes");
    refuse(
        &|plan| plan.rollout.drain.at_deadline = AtDeadline::Extend { hard_limit: secs(5), then: Then::Cut },
        "hard_limit",
    );
    refuse(&|plan| plan.rollout.steps.stop.reply_within = secs(30), "rollout.steps.stop.reply_within");
    refuse(&|plan| plan.rollout.steps.health.within = None, "rollout.steps.health");
    refuse(&|plan| plan.rollout.steps.admit.every = Span::ZERO, "rollout.steps.admit.every");
    refuse(&|plan| plan.gate.margin = f64::NAN, "gate.margin");
    refuse(
        &|plan| {
            plan.guards = vec![Guard {
                figure: Figure::TtftP99,
                limit: 1.0,
                sustained: secs(1),
                action: GuardAction::RollBack,
            }];
        },
        "guards[0].action",
    );
}
