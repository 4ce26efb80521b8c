//! Evidence for the policy's comparison of a canary, from the engines' own histograms: where a request fell in its bucket is not known, so
//! two in one bucket count as equal, which is half a point for each version.

use std::collections::BTreeMap;

use slackwater_policy::{Block, CompareSpec, Served, VersionRef};

use crate::metrics::{Histogram, Metrics};

/// A block of half a minute has some hundred requests; more of one bucket say nothing new.
const MOST_OF_A_BUCKET: usize = 1_000;

/// Histograms at the last look, by replica.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    last: BTreeMap<usize, (VersionRef, Histogram, Histogram)>,
}

impl Blocks {
    /// What came since the last look; `None` where one version served nobody.
    pub(crate) fn block(
        &mut self,
        spec: &CompareSpec,
        pages: Vec<(usize, VersionRef, Metrics)>,
    ) -> Option<Block> {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut now = BTreeMap::new();
        for (replica, version, page) in pages {
            let (ttft, tpot) = (page.ttft(), page.tpot());
            if let Some((_, ttft_before, tpot_before)) =
                self.last.get(&replica).filter(|(was, ..)| *was == version)
            {
                let served = if version == VersionRef::From { &mut old } else { &mut new };
                served.extend(each(&ttft.less(ttft_before)).map(|at| of(Some(at), None)));
                served.extend(each(&tpot.less(tpot_before)).map(|at| of(None, Some(at))));
            }
            now.insert(replica, (version, ttft, tpot));
        }
        self.last = now;
        let block = Block::of(spec, &old, &new);
        // Engines do not count what failed: nothing is said of that.
        (block.ttft.is_some() || block.tpot.is_some()).then_some(Block { errors: None, ..block })
    }
}

fn of(ttft_s: Option<f64>, tpot_s: Option<f64>) -> Served {
    Served { ttft_s, tpot_s, failed: false }
}

fn each(histogram: &Histogram) -> impl Iterator<Item = f64> {
    histogram.middles().into_iter().flat_map(|(at, count)| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count, bounded
        let count = (count.round().max(0.0) as usize).min(MOST_OF_A_BUCKET);
        std::iter::repeat_n(at, count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::EngineKind;

    fn page(fast: u32, slow: u32) -> Metrics {
        let all = fast + slow;
        let text = format!(
            "vllm:time_to_first_token_seconds_bucket{{le=\"0.1\"}} {fast}\n\
             vllm:time_to_first_token_seconds_bucket{{le=\"1\"}} {all}\n\
             vllm:time_to_first_token_seconds_bucket{{le=\"+Inf\"}} {all}\n"
        );
        Metrics::read(EngineKind::Vllm, &text)
    }

    #[test]
    fn a_slower_canary_has_the_larger_figures_and_a_restart_is_no_evidence() {
        let (from, to) = (VersionRef::From, VersionRef::To);
        let mut blocks = Blocks::default();
        let spec = CompareSpec::default();
        assert_eq!(blocks.block(&spec, vec![(0, from, page(5, 0)), (1, to, page(0, 0))]), None);
        let block = blocks.block(&spec, vec![(0, from, page(15, 0)), (1, to, page(0, 10))]).unwrap();
        assert_eq!((block.ttft, block.tpot, block.errors), (Some(1.0), None, None));
        let block = blocks.block(&spec, vec![(0, from, page(25, 0)), (1, to, page(10, 10))]).unwrap();
        assert_eq!(block.ttft, Some(0.5), "alike");
        assert_eq!(blocks.block(&spec, vec![(0, to, page(1, 0)), (1, to, page(20, 10))]), None);
    }
}
