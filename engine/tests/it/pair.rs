//! The engine and the oracle, driven by the same calls and compared after each.

use slackwater_engine::{
    Counters, Output, Ps, Rejected, Replica, ReplicaConfig, Request, SequenceId, StepTimeForm,
};

use crate::oracle::{Id, Oracle};

/// How the engine (not the oracle) is brought to the time of the next input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// In one go.
    Once,
    /// In this many increments.
    Increments(u32),
    /// From one [`Replica::next_event`] to the next, as a simulation's event queue does it.
    EventByEvent,
}

/// A `Replica` and its oracle. Every method panics where they differ.
pub(crate) struct Pair {
    engine: Replica<StepTimeForm>,
    oracle: Oracle<StepTimeForm>,
    /// By order of acceptance, which is the oracle's id.
    ids: Vec<SequenceId>,
    now: Ps,
    /// What the contract leaves open from then on: whether the steps decided but cut count as busy.
    killed_while_busy: bool,
}

impl Pair {
    pub(crate) fn new(config: &ReplicaConfig, form: StepTimeForm) -> Self {
        Self {
            engine: Replica::new(config.clone(), form).expect("valid"),
            oracle: Oracle::new(config.clone(), form).expect("valid"),
            ids: Vec::new(),
            now: 0,
            killed_while_busy: false,
        }
    }

    pub(crate) fn oracle(&self) -> &Oracle<StepTimeForm> {
        &self.oracle
    }

    pub(crate) fn now(&self) -> Ps {
        self.now
    }

    /// The id, for [`Pair::cancel`], or `None` when both refuse for the same reason.
    pub(crate) fn submit(&mut self, ready_at: Ps, request: Request) -> Option<Id> {
        let engine = self.engine.submit(ready_at, request);
        let oracle = self.oracle.submit(ready_at, request);
        self.submitted(ready_at, request, engine, oracle)
    }

    /// As [`Pair::submit`], with the ids of the blocks of its context.
    pub(crate) fn submit_with_blocks(
        &mut self,
        ready_at: Ps,
        request: Request,
        blocks: &[u64],
    ) -> Option<Id> {
        let engine = self.engine.submit_with_blocks(ready_at, request, blocks);
        let oracle = self.oracle.submit_with_blocks(ready_at, request, blocks);
        self.submitted(ready_at, request, engine, oracle)
    }

    fn submitted(
        &mut self,
        ready_at: Ps,
        request: Request,
        engine: Result<SequenceId, Rejected>,
        oracle: Result<Id, Rejected>,
    ) -> Option<Id> {
        assert_eq!(engine.err(), oracle.err(), "{request:?} ready at {ready_at}");
        self.ids.push(engine.ok()?);
        assert_eq!(oracle, Ok(self.ids.len() - 1));
        self.compare();
        oracle.ok()
    }

    pub(crate) fn cancel(&mut self, id: Id) -> Option<u32> {
        let engine = self.engine.cancel(self.now, self.ids[id]);
        let oracle = self.oracle.cancel(self.now, id);
        assert_eq!(engine, oracle, "cancel of {id} at {}", self.now);
        self.compare();
        oracle
    }

    /// Both time what they decide from now on by this form.
    pub(crate) fn set_form(&mut self, form: StepTimeForm) {
        self.engine.set_form(self.now, form);
        self.oracle.set_form(self.now, form);
        self.compare();
    }

    /// Output tokens so far of what is alive and not cancelled.
    pub(crate) fn emitted(&self, id: Id) -> Option<u32> {
        let engine = self.engine.emitted(self.ids[id], self.now);
        let oracle = self.oracle.emitted(id, self.now);
        assert_eq!(engine, oracle, "emitted by {id} before {}", self.now);
        oracle
    }

    /// Tag and emitted tokens of whatever was alive.
    pub(crate) fn kill(&mut self) -> Vec<(u32, u32)> {
        self.killed_while_busy |= !self.oracle.is_idle();
        let engine: Vec<_> =
            self.engine.kill(self.now).iter().map(|unfinished| (unfinished.tag, unfinished.tokens)).collect();
        let oracle = self.oracle.kill(self.now);
        assert_eq!(engine, oracle, "kill at {}", self.now);
        self.compare();
        oracle
    }

    /// Advances both, to hand in what happens at `until`.
    pub(crate) fn advance_before(&mut self, until: Ps, pace: Pace) -> Vec<Output> {
        let mut oracle = Vec::new();
        let mut engine = Vec::new();
        let due = self.oracle.next_event();
        let promised = self.engine.next_event();
        assert_eq!(promised.is_none(), due.is_none(), "one is idle at {}, the other not", self.now);
        assert!(promised >= due, "the engine promises {promised:?}, before the next decision at {due:?}");
        self.oracle.advance_before(until, &mut |output| oracle.push(output)).expect("in range");
        if let (Some(Output::FirstToken { at, .. } | Output::Finished { at, .. }), Some(promised)) =
            (oracle.first(), promised)
        {
            assert!(
                promised <= *at,
                "the engine promises nothing before {promised}; an output comes at {at}"
            );
        }

        let mut stop_at = |time| {
            self.engine.advance_before(time, &mut |output| engine.push(output)).expect("in range");
            self.engine.next_event()
        };
        match pace {
            Pace::Once => {}
            Pace::Increments(count) => {
                let increment = (until - self.now) / (Ps::from(count) + 1);
                for done in 1..=Ps::from(count) {
                    stop_at(self.now + done * increment);
                }
            }
            Pace::EventByEvent => {
                let mut next = promised;
                while let Some(event) = next
                    && event < until
                {
                    next = stop_at(event + 1);
                    assert!(next.is_none_or(|next| next > event), "stuck at {event}");
                }
            }
        }
        stop_at(until);
        assert_eq!(engine, oracle, "outputs from {} to before {until}", self.now);
        self.now = until;
        self.compare();
        oracle
    }

    /// Lets both run dry; returns what they put out.
    pub(crate) fn finish(&mut self, pace: Pace) -> Vec<Output> {
        // Increments that are a share of eternity would be no increments.
        let mut rehearsal = self.oracle.clone();
        let mut end = self.now;
        while let Some(event) = rehearsal.next_event() {
            end = event + 1;
            rehearsal.advance_before(end, &mut |_| ()).expect("in range");
        }
        let outputs = self.advance_before(end, pace);
        assert_eq!(self.oracle.next_event(), None);
        assert_eq!(self.oracle.in_flight(), 0);
        assert_eq!(self.engine.next_event(), None);
        outputs
    }

    /// What can be seen at any time, and what can be seen while idle.
    fn compare(&self) {
        let seen = (self.engine.running(), self.engine.waiting(), self.engine.in_flight());
        let oracle = [self.oracle.running(), self.oracle.waiting(), self.oracle.in_flight()];
        let now = self.now;
        assert_eq!(
            [seen.0 as usize, seen.1 as usize, seen.2 as usize],
            oracle,
            "running, waiting and in flight at {now}"
        );
        // Blocks that a jump takes are counted when it ends, and so are its steps and tokens.
        assert!(self.engine.free_blocks() >= self.oracle.free_blocks(), "free blocks at {now}");
        let of_requests = |counters: Counters| {
            let Counters { preemptions, submitted, finished, cancelled, killed, .. } = counters;
            [preemptions, submitted, finished, cancelled, killed]
        };
        assert_eq!(
            of_requests(self.engine.counters()),
            of_requests(self.oracle.counters()),
            "preempted, submitted, finished, cancelled and killed at {now}"
        );
        let mut engine = self.engine.prefix_counters();
        let mut oracle = self.oracle.prefix_counters();
        if !self.oracle.is_idle() {
            assert!(engine.evicted_blocks <= oracle.evicted_blocks, "evicted blocks at {now}");
            engine.evicted_blocks = 0;
            oracle.evicted_blocks = 0;
        }
        assert_eq!(engine, oracle, "prefix counters at {now}");
        if self.oracle.is_idle() {
            assert_eq!(self.engine.free_blocks(), self.oracle.free_blocks(), "free blocks at {now}");
            let mut engine = self.engine.counters();
            let mut oracle = self.oracle.counters();
            if self.killed_while_busy {
                engine.busy_ps = 0;
                oracle.busy_ps = 0;
            }
            assert_eq!(engine, oracle, "counters at {now}");
        }
    }
}
