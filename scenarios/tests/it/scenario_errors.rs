use slackwater_scenarios::Scenario;
#[test]
fn show() {
    let base = "[fleet]\nreplicas = 4\n[from]\nengine = \"h100-qwen3-14b\"\n[traffic.generate]\nduration = \"1h\"\nrate_per_s = 5\n";
    for extra in [
        "[rollout]\nsoack = 3\n",
        "[rollout]\nsoak = \"3 parsecs\"\n",
        "[rollout]\nat_deadline = \"cutt\"\n",
        "[slo]\nshare = nan\n",
        "[to]\nengine=\"h100-qwen\"\n",
        "[rollot]\n",
        "[rollout]\nmax_unavailable = \"one\"\n",
        "[rollout]\nmax_unavailable = -1\n",
        "[rollout]\nmax_unavailable = 99999999999\n",
        "[slo]\nshare = 1.2.3\n",
        "[to]\nengine={base=\"h100-qwen3-14b\", c0_ms=\"x\"}\n",
        "[to.engine]\nbase=\"h100-qwen3-14b\"\nc0_ms=-1\n",
        "[to]\nengine={c0_ms=1}\n",
        "[rollout]\nat_deadline={extend={to=\"60s\"}}\n",
        "[rollout]\nstart=2026-01-05T00:00:00\n",
        "[to]\nstartup={median=\"60s\"}\n",
        "[router]\nworkers=2\n",
        "[rollout]\norder=[\"replica-9\"]",
        "[to]\nstartup={median=\"60s\",p95=\"5s\"}\n",
    ] {
        let text = format!("{base}{extra}");
        match Scenario::parse(&text, "dir/x.toml") {
            Ok(_) => println!("OK?? {extra}"),
            Err(e) => println!("{e}\n"),
        }
    }
    for set in [
        "fleet.replicas=four",
        "fleet.replicaz=4",
        "nonsense",
        "from.engine.c0_ms=0",
        "to.engine.c0_mss=3",
        "traffic.file=x.csv",
        "from.engine=h100",
        "traffic.generate.input.0.median=5",
        "traffic.generate.input.9.median=5",
        "seed.x=1",
        "seed=[1",
    ] {
        match Scenario::parse_with(base, "dir/x.toml", &[set]) {
            Ok(_) => println!("OK {set}\n"),
            Err(e) => println!("{e}\n"),
        }
    }
    for s in ["", "x", "[from]\nengine=3\n", "[fleet]"] {
        println!("{}\n", Scenario::parse(s, "x.toml").unwrap_err());
    }
    let s = Scenario::parse(base, "x.toml").unwrap();
    println!("{}", s.to_toml());
    assert_eq!(Scenario::parse(&s.to_toml(), "y.toml").unwrap(), s);
}
