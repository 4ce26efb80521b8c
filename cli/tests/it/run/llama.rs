//! A real engine: four llama.cpp servers, rolled from one model to another behind nginx. Its server cuts streams when it is told to stop, so
//! whatever is lost here the drain has lost.
//!
//!     SLACKWATER_LLAMA_SERVER=/path/llama-server SLACKWATER_GGUF_OLD=/path/a.gguf SLACKWATER_GGUF_NEW=/path/b.gguf

use super::fleet::{Fleet, Front, Spec, exit, is_there, text};

#[test]
fn llama_servers_are_rolled_without_losing_a_stream() {
    let set = |name: &str| std::env::var(name).ok().filter(|path| std::path::Path::new(path).exists());
    let (Some(server), Some(old), Some(new)) =
        (set("SLACKWATER_LLAMA_SERVER"), set("SLACKWATER_GGUF_OLD"), set("SLACKWATER_GGUF_NEW"))
    else {
        eprintln!(
            "skipped: SLACKWATER_LLAMA_SERVER, SLACKWATER_GGUF_OLD and SLACKWATER_GGUF_NEW name no files"
        );
        return;
    };
    if !is_there("nginx") {
        return;
    }
    let definition = |model: &str| {
        format!(
            "command = ['{server}', '--device', 'none', '-m', '{model}', '--alias', 'chat', '--host', '{{host}}', '--port', '{{port}}', \
             '--metrics', '-t', '1', '-np', '4', '-c', '8192']\nweights = '{model}'\nidentity = {{ arguments = ['{model}'] }}\n"
        )
    };
    let mut fleet = Fleet::start_with(&Spec::new(Front::Nginx, 4), |written| {
        let (head, rest) = written.split_once("[versions.from]").unwrap();
        let replicas = &rest[rest.find("\n[[replicas]]").unwrap()..];
        // Its server closes idle connections after 5 s, and nginx would be sending on one of them.
        let head = head
            .replace(", 'keepalive 16;'", "")
            .replace("kind = 'vllm'", "kind = 'llama_cpp'")
            .replace("expect = '#0', ", "");
        format!("{head}[versions.from]\n{}\n[versions.to]\n{}{replicas}", definition(&old), definition(&new))
    });
    fleet.plan.rollout.steps.health.within = Some(slackwater_policy::Span::from_secs(60));
    fleet.plan.rollout.drain.probe_every = slackwater_policy::Span::from_millis(200);
    fleet.write_plan();
    let load = fleet.load_with(8, |options| {
        options.stand_in = false;
        options.prompt.output_tokens = (50, 400);
    });
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    let report = fleet.stop_load(load);
    eprintln!("llama-server: {} streams sent, {} completed", report.sent, report.completed);
    assert!(report.is_clean() && report.sent > 20, "{:?}", report.faults);
    for pid in fleet.pids() {
        let arguments = slackwater_exec::procfs::arguments(pid.unwrap());
        assert!(arguments.contains(&new), "{arguments:?}");
    }
}
