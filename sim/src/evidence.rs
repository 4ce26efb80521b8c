//! What clients of both versions saw, gathered into blocks for the policy's comparison.

use slackwater_engine::Ps;
use slackwater_policy::{Block, CompareSpec, Served, VersionRef};

use crate::books::{TICK_PS, seconds};
use crate::requests::Request;

/// How many ticks make a block: 30 s.
const TICKS: u32 = 3;

/// Attempts that ended since the last block, by version.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    spec: CompareSpec,
    old: Vec<Served>,
    new: Vec<Served>,
    ticks: u32,
}

impl Evidence {
    pub(crate) fn new(spec: CompareSpec) -> Self {
        debug_assert_eq!(slackwater_policy::Block::SPAN.as_nanos() * 1000, u64::from(TICKS) * TICK_PS);
        Self { spec, old: Vec::new(), new: Vec::new(), ticks: 0 }
    }

    fn of(&mut self, version: VersionRef) -> &mut Vec<Served> {
        match version {
            VersionRef::From => &mut self.old,
            VersionRef::To => &mut self.new,
        }
    }

    /// An attempt was answered whole at `at`, as the engine sees it. Its time counts from its own sending: what came before
    /// is not this replica's doing.
    pub(crate) fn completed(&mut self, version: VersionRef, request: &Request, at: Ps) {
        let first = request.first_token;
        let tpot = (at - first).checked_div(u64::from(request.output_now) - 1);
        self.of(version).push(Served {
            ttft_s: Some(seconds(first + request.outbound - request.sent)),
            tpot_s: tpot.map(seconds),
            failed: false,
        });
    }

    /// An attempt failed at a replica of this version.
    pub(crate) fn failed(&mut self, version: VersionRef) {
        self.of(version).push(Served { ttft_s: None, tpot_s: None, failed: true });
    }

    /// A tick of the clock; the block that it ends.
    pub(crate) fn tick(&mut self) -> Option<Block> {
        self.ticks += 1;
        if self.ticks < TICKS {
            return None;
        }
        self.ticks = 0;
        let block = Block::of(&self.spec, &self.old, &self.new);
        self.old.clear();
        self.new.clear();
        // Where one version served nobody there is nothing to compare.
        block.errors.is_some().then_some(block)
    }
}
