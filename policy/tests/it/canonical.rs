//! The canonical form: equal where everything to come is equal, and only there. (`explore/` holds it against every pair of paths that meet.)

use slackwater_policy::{Canonical, CommandId, Entry, Event, Reply, Rollout, Time};

use crate::happy::plan;
use crate::world::{Run, secs};

fn without_commands(rollout: &mut Rollout) {
    while rollout.poll().is_some() {}
}

#[test]
fn when_it_happens_and_what_is_only_told_do_not_matter() {
    let mut run = Run::new(plan(3));
    run.world.real[1].gpu_lingers = true;
    run.world.start_takes = secs(10);
    run.run();
    let mut here = Rollout::new(plan(3)).unwrap();
    let mut there = Rollout::new(plan(3)).unwrap();
    let mut forms: Vec<Canonical> = Vec::new();
    for record in &run.records {
        let Entry::Event(event) = &record.entry else { continue };
        let later = Time(record.at.0 + secs(86_400).0);
        here.handle(record.at, event.clone()).unwrap();
        there.handle(later, event.clone()).unwrap();
        without_commands(&mut here);
        without_commands(&mut there);
        for told in [
            Event::Load { rate: 3.0 },
            // Long answered.
            Event::Outcome { id: CommandId(1), outcome: Reply::Healthy },
        ] {
            if here.canonical(&[CommandId(1)]) == here.canonical(&[CommandId(9_999)]) {
                there.handle(later, told).unwrap();
                without_commands(&mut there);
            }
        }
        assert_eq!(here.canonical(&[]), there.canonical(&[]), "{:#?}", here.status());
        forms.push(here.canonical(&[]));
    }
    assert_ne!(here.status(), there.status(), "one was told more than the other");
    let all = forms.len();
    forms.sort();
    forms.dedup();
    // A probe that finds nothing new may leave things as they were; nothing else does.
    assert!(forms.len() * 2 > all, "{} forms in {all} events", forms.len());
}

#[test]
fn it_matters_whether_a_reply_is_still_waited_for() {
    let mut run = Run::new(plan(2));
    run.step();
    let waits = run.rollout.canonical(&[CommandId(1)]);
    assert_ne!(waits, run.rollout.canonical(&[CommandId(2)]), "to another replica");
    assert_ne!(waits, run.rollout.canonical(&[CommandId(77)]), "not waited for");
}
