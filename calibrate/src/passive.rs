//! A fit to the intervals of a server that was only watched.
//!
//! ```text
//! gap = max(c0, c_tok * decoding) + c_seq * decoding + c_kv * context          a step without prompts, averaged over tokens
//!     + share of tokens in steps with prompts * (what prompts make such a step longer)
//! ```
//! Regressed is how long tokens took, interval by interval, on how many sequences decoded, how much context they had and how
//! many prompts came. It is rougher than a replay: within an interval only means are known. What it can't see stays with
//! the prior: `c_attn` (prompts of one length more or less), and the front end, of which only the sum is put so that first
//! tokens come out right in a replay of requests drawn like those that were counted.

use slackwater_scenarios::{EngineProfile, FrontEnd, Scheduling};

use crate::calibration::{Fitted, Reach, alternatives_of_steps, identified};
use crate::coefficients::{Coefficient, put};
use crate::experiment::Experiment;
use crate::fit::{Minimum, refine, search};
use crate::identify::{Estimate, Known, estimate};
use crate::limits::{Structure, limits};
use crate::objective::{Objective, robust};
use crate::prior::Prior;
use crate::replay::{Drive, replay};
use crate::watched::{Interval, Watched, weighted_mean};

/// What watching gave.
#[derive(Debug, Clone)]
pub struct WatchedFit {
    /// The profile and how far each coefficient is known.
    pub fitted: Fitted,
    /// How the means of the held-out stretches came out.
    pub held_out: Option<Means>,
    /// Intervals it was fitted to.
    pub intervals: usize,
    /// The traffic was too even to tell anything: why.
    pub too_even: Option<String>,
}

/// Means of requests as measured, beside those of requests drawn like them and replayed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Means {
    /// Answers that were counted.
    pub requests: f64,
    /// Measured and predicted, seconds to the first token.
    pub ttft_s: (f64, f64),
    /// Seconds a token after the first.
    pub tpot_s: (f64, f64),
    /// Seconds to the last token.
    pub e2e_s: (f64, f64),
}

/// Too little was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassiveError {
    /// Too few intervals with tokens in them.
    #[error(
        "{of} intervals were watched and {usable} of them have at least {LEAST_GAPS} tokens; at least {LEAST} are needed: watch for longer, \
         or at a busier time"
    )]
    TooFew {
        /// Intervals with enough tokens.
        usable: usize,
        /// All of them.
        of: usize,
    },
    /// No lengths.
    #[error(
        "the server's metrics do not say how long prompts and answers are; they are needed to tell what a prompt costs"
    )]
    NoLengths,
}

/// Tokens without which an interval's mean is left out.
const LEAST_GAPS: u32 = 20;
const LEAST: usize = 24;
/// So many intervals are fitted at the most; of more every second, third, ...
const MOST: usize = 4000;
/// Stretches of consecutive intervals; each fourth is held out.
const STRETCHES: usize = 16;
/// Blocks of the statistics, as for requests.
const BLOCKS: usize = 12;
/// How far single intervals are off, as a logarithm, before anything is known of it, and at least.
const FIRST_SCALE: f64 = 0.03;
const LEAST_SCALE: f64 = 0.003;
/// Where more of the prompts than this comes from the prefix cache, blocks in use are not the sum of contexts.
const SHARED: f64 = 0.1;

/// The intervals against the formula.
struct Intervals<'a> {
    intervals: Vec<&'a Interval>,
    /// Prompt lengths as multiples of their mean, with weights that add up to one.
    prompts: Vec<(f64, f64)>,
    limits: EngineProfile,
    prior: Prior,
    scale: f64,
    has_context: bool,
}

impl Intervals<'_> {
    /// The gap before a token, in seconds.
    fn predicted(&self, interval: &Interval, vector: &[f64]) -> f64 {
        let value = |coefficient: Coefficient| coefficient.at(vector[coefficient.axis()]);
        let (c0, c_tok) = (value(Coefficient::C0Ms) * 1e3, value(Coefficient::CTokUs));
        let compute = |tokens: f64| c0.max(c_tok * tokens);
        let (mean, by_token) = (interval.decoding(), interval.decoding_by_token());
        let block_size = f64::from(self.limits.block_size);
        let context = interval.context_by_token(block_size).unwrap_or(0.0);
        let plain = compute(by_token)
            + value(Coefficient::CSeqUs) * by_token
            + value(Coefficient::CKvUs) * if self.has_context { context } else { 0.0 };
        if interval.first_tokens <= 0.0 {
            return plain / 1e6;
        }
        // Prompts that come in the same step share its floor: so many a step that has any.
        let a_step = interval.first_tokens * interval.gap_s() / interval.seconds;
        let together = if a_step > 1e-6 { a_step / -(-a_step).exp_m1() } else { 1.0 };
        let prompt = interval.prompt_tokens / interval.first_tokens;
        let room = (f64::from(self.limits.max_num_batched_tokens) - mean).max(1.0);
        let longer = |tokens: f64| compute(tokens + mean) - compute(mean);
        let c_attn = value(Coefficient::CAttnUsPerToken2);
        let extra: f64 = self
            .prompts
            .iter()
            .map(|(multiple, weight)| {
                let tokens = prompt * multiple * together;
                let (chunks, rest) = ((tokens / room).floor(), tokens % room);
                let attention = c_attn * together * (prompt * multiple).powi(2) / 2.0;
                weight * (chunks * longer(room) + longer(rest) + attention)
            })
            .sum();
        let share = interval.first_tokens / together * mean / interval.gaps;
        (plain + share * extra) / 1e6
    }

    fn off(&self, interval: &Interval, vector: &[f64]) -> f64 {
        (self.predicted(interval, vector) / interval.gap_s()).ln()
    }

    fn free(&self) -> Vec<usize> {
        let wanted = |axis: &usize| match Coefficient::ALL[*axis] {
            Coefficient::C0Ms | Coefficient::CTokUs | Coefficient::CSeqUs => true,
            Coefficient::CKvUs => self.has_context,
            Coefficient::CAttnUsPerToken2 | Coefficient::FrontEndMs | Coefficient::InboundOverOutbound => {
                false
            }
        };
        (0..Coefficient::ALL.len()).filter(wanted).collect()
    }

    fn rescaled(mut self, vector: &[f64]) -> Self {
        let mut off: Vec<f64> = self.intervals.iter().map(|it| self.off(it, vector).abs()).collect();
        off.sort_by(f64::total_cmp);
        if let Some(median) = off.get(off.len() / 2) {
            self.scale = (median / 0.674).max(LEAST_SCALE);
        }
        self
    }
}

impl Objective for Intervals<'_> {
    #[expect(clippy::cast_precision_loss)]
    fn residuals(&self, vector: &[f64]) -> Vec<f64> {
        let weight = 1.0 / (self.intervals.len().max(1) as f64).sqrt();
        let mut residuals = self.prior.residuals(vector);
        residuals.extend(self.intervals.iter().map(|it| weight * robust(self.off(it, vector) / self.scale)));
        residuals
    }

    #[expect(clippy::cast_precision_loss)]
    fn blocks(&self, vector: &[f64]) -> Vec<f64> {
        let size = self.intervals.len().div_ceil(BLOCKS).max(1);
        let of_block = |block: &[&Interval]| {
            block.iter().map(|it| robust(self.off(it, vector) / self.scale).powi(2)).sum::<f64>()
                / block.len() as f64
        };
        self.intervals.chunks(size).map(of_block).collect()
    }
}

/// Fits a profile to what was watched. `say` is told what is being done.
///
/// # Errors
/// When too little was seen.
pub fn fit_watched(
    watched: &Watched,
    seed: u64,
    say: &(dyn Fn(&str) + Sync),
) -> Result<WatchedFit, PassiveError> {
    let usable = |interval: &Interval| {
        interval.gaps >= f64::from(LEAST_GAPS) && interval.gaps_s > 0.0 && interval.seconds > 0.0
    };
    let count = watched.intervals.iter().filter(|it| usable(it)).count();
    if count < LEAST {
        return Err(PassiveError::TooFew { usable: count, of: watched.intervals.len() });
    }
    let drawn: Vec<(usize, Experiment)> =
        (0..watched.engines()).filter_map(|engine| Some((engine, watched.drawn(engine, seed)?))).collect();
    let (_, first) = drawn.first().ok_or(PassiveError::NoLengths)?;
    let mean = weighted_mean(&watched.prompts).ok_or(PassiveError::NoLengths)?;
    let weight: f64 = watched.prompts.iter().map(|(_, weight)| weight).sum();
    let held_out = held_out_stretches(watched.intervals.len());
    let fitted_intervals: Vec<&Interval> = watched
        .intervals
        .iter()
        .zip(&held_out)
        .filter(|(it, out)| usable(it) && !**out)
        .map(|(it, _)| it)
        .collect();
    // More say no more of four coefficients, and take their time.
    let fitted_intervals: Vec<&Interval> =
        fitted_intervals.iter().step_by(fitted_intervals.len().div_ceil(MOST)).copied().collect();
    say(&format!("fitting {} intervals", fitted_intervals.len()));
    // What scheduling is does not show in means; vLLM's newer default is taken.
    let structure = Structure {
        scheduling: if watched.about.async_scheduling == Some(false) {
            Scheduling::Sync
        } else {
            Scheduling::Async
        },
        reserve: slackwater_scenarios::KvReservation::default(),
    };
    let prior = Prior::of(first);
    let total = |of: fn(&Interval) -> f64| fitted_intervals.iter().map(|it| of(it)).sum::<f64>();
    let (cached, computed) = (total(|it| it.cached_tokens), total(|it| it.prompt_tokens));
    let objective = Intervals {
        prompts: watched.prompts.iter().map(|(length, of)| (length / mean, of / weight)).collect(),
        limits: limits(first, structure).0,
        prior: prior.clone().weighed(fitted_intervals.len()),
        scale: FIRST_SCALE,
        has_context: fitted_intervals.iter().all(|it| it.kv_tokens.is_some())
            && cached <= SHARED * (cached + computed),
        intervals: fitted_intervals.clone(),
    };
    let free = objective.free();
    let best = search(&objective, &prior.centre, &free, seed);
    let objective = objective.rescaled(&best.vector);
    let best = refine(&objective, Minimum::at(&objective, best.vector), &free);
    say("looking how well each coefficient is known");
    let (best, known) = identified(&objective, best, &free);
    let requests = total(|it| it.first_tokens);
    let mut profile = objective.limits;
    put(&best.vector, &mut profile);
    profile.front_end = FrontEnd { inbound_ms: 0.0, outbound_ms: 0.0, ..profile.front_end };
    profile.front_end = front_end(watched, &drawn, &held_out, &profile, seed);
    profile.source =
        format!("watched only, so rougher than measured: {requests:.0} requests of {}", first.name);
    let coefficients: Vec<Estimate> = Coefficient::ALL
        .into_iter()
        .map(|coefficient| {
            let axis = coefficient.axis();
            match known.iter().find(|of| of.axis == axis) {
                Some(of) => {
                    let why = why(coefficient, &fitted_intervals);
                    estimate(axis, best.vector[axis], of.below, of.above, Some(why))
                }
                None => {
                    let log = match coefficient {
                        Coefficient::FrontEndMs => {
                            (profile.front_end.inbound_ms + profile.front_end.outbound_ms).max(1e-3).ln()
                        }
                        Coefficient::InboundOverOutbound => 0.0,
                        _ => best.vector[axis],
                    };
                    estimate(axis, log, f64::INFINITY, f64::INFINITY, Some(not_looked_at(coefficient)))
                }
            }
        })
        .collect();
    let too_even =
        coefficients.iter().all(|of| of.known == Known::NotIdentified).then(|| even(&fitted_intervals));
    let (requests, reach) = (whole(requests), reach(watched));
    Ok(WatchedFit {
        held_out: means(watched, &drawn, &profile, seed, |index| held_out[index]),
        intervals: fitted_intervals.len(),
        too_even,
        fitted: Fitted {
            alternatives: alternatives_of_steps(&known, &profile),
            profile,
            coefficients,
            tried: Vec::new(),
            fitted_to: requests as usize,
            reach: Some(reach),
            began_at: prior.began_at(),
        },
    })
}

/// Which intervals are held out: each fourth stretch.
fn held_out_stretches(count: usize) -> Vec<bool> {
    let size = count.div_ceil(STRETCHES).max(1);
    (0..count).map(|index| (index / size) % 4 == 3).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // casts saturate
fn whole(value: f64) -> u32 {
    value.round() as u32
}

/// Lengths are the middles of histogram buckets, so the longest may have been somewhat longer.
fn reach(watched: &Watched) -> Reach {
    let longest = |lengths: &[(f64, f64)]| {
        lengths.iter().filter(|(_, weight)| *weight > 0.0).map(|(length, _)| *length).fold(0.0, f64::max)
    };
    let (prompt, output) = (longest(&watched.prompts), longest(&watched.outputs));
    Reach {
        prompt_tokens: whole(prompt),
        context_tokens: whole(prompt + output),
        in_flight: whole(watched.intervals.iter().map(|it| it.in_flight).fold(0.0, f64::max)),
    }
}

/// The front end with which first tokens come at the right time on average, in the median of the fitted stretches.
fn front_end(
    watched: &Watched,
    drawn: &[(usize, Experiment)],
    held_out: &[bool],
    without: &EngineProfile,
    seed: u64,
) -> FrontEnd {
    let size = watched.intervals.len().div_ceil(STRETCHES).max(1);
    let missing = |stretch: usize| {
        let within = |index: usize| index / size == stretch && !held_out[index];
        means(watched, drawn, without, seed, within).map(|means| means.ttft_s.0 - means.ttft_s.1)
    };
    let mut missing_s: Vec<f64> = (0..STRETCHES).filter_map(missing).collect();
    missing_s.sort_by(f64::total_cmp);
    // Where requests came in bursts they waited longer than drawn ones do: a stretch of such is no mean of all.
    let missing_ms = missing_s.get(missing_s.len() / 2).map_or(0.0, |missing_s| missing_s.max(0.0) * 1e3);
    FrontEnd { inbound_ms: missing_ms / 2.0, outbound_ms: missing_ms / 2.0, ..without.front_end.clone() }
}

/// Means of the intervals that `take` names, as measured and of the drawn requests replayed.
fn means(
    watched: &Watched,
    drawn: &[(usize, Experiment)],
    profile: &EngineProfile,
    seed: u64,
    take: impl Fn(usize) -> bool,
) -> Option<Means> {
    let taken = || watched.intervals.iter().enumerate().filter(|(index, _)| take(*index)).map(|(_, it)| it);
    let sum = |of: fn(&Interval) -> f64| taken().map(of).sum::<f64>();
    let (mut first, mut ttft, mut gaps, mut gaps_s, mut e2e) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (engine, experiment) in drawn {
        let replayed = replay(experiment, profile, Drive::Open, seed).ok()?;
        // In order of time, and they do not overlap.
        let mine: Vec<&Interval> = taken().filter(|it| it.engine == *engine).collect();
        for (row, replayed) in experiment.rows.iter().zip(replayed) {
            let next = mine.partition_point(|it| it.from_s <= row.arrival_s);
            let of = next.checked_sub(1).map(|place| mine[place]);
            let taken = of.is_some_and(|it| row.arrival_s < it.from_s + it.seconds);
            let Some(answer) = replayed.answer.filter(|_| taken) else { continue };
            first += 1.0;
            ttft += answer.ttft_s;
            e2e += answer.e2e_s;
            gaps += f64::from(row.output_tokens.saturating_sub(1));
            gaps_s += answer.e2e_s - answer.ttft_s;
        }
    }
    let (began, ended, tokens) = (sum(|it| it.first_tokens), sum(|it| it.ended), sum(|it| it.gaps));
    (first > 0.0 && gaps > 0.0 && began > 0.0 && ended > 0.0 && tokens > 0.0).then(|| Means {
        requests: ended,
        ttft_s: (sum(|it| it.ttft_s) / began, ttft / first),
        tpot_s: (sum(|it| it.gaps_s) / tokens, gaps_s / gaps),
        e2e_s: (sum(|it| it.e2e_s) / ended, e2e / first),
    })
}

/// The smallest and the largest but for a twentieth at each end.
fn range(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let skip = values.len() / 20;
    let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
    (at(skip.min(last)), at(last - skip.min(last)))
}

fn even(intervals: &[&Interval]) -> String {
    let (fewest, most) = range(intervals.iter().map(|it| it.decoding()).collect());
    let (fast, slow) = range(intervals.iter().map(|it| it.gap_s() * 1e3).collect());
    format!(
        "the traffic was too even to tell anything: {fewest:.1} to {most:.1} sequences decoded at a time, and a step took {fast:.2} to \
         {slow:.2} ms; watch longer, over a time in which the load changes"
    )
}

fn why(coefficient: Coefficient, intervals: &[&Interval]) -> String {
    let (fewest, most) = range(intervals.iter().map(|it| it.decoding()).collect());
    match coefficient {
        Coefficient::CTokUs => {
            let rate = |it: &&Interval| it.prompt_tokens / it.seconds;
            let (least, most) = range(intervals.iter().map(rate).collect());
            format!(
                "{least:.0} to {most:.0} prompt tokens a second came: too few, or always as many beside as many answers"
            )
        }
        Coefficient::CKvUs => {
            let (least, most) = range(intervals.iter().filter_map(|it| it.kv_tokens).collect());
            format!("the KV cache held {least:.0} to {most:.0} tokens: too few, or always as many a sequence")
        }
        _ => format!(
            "{fewest:.1} to {most:.1} sequences decoded at a time: too few, too much alike, or always with as much context each"
        ),
    }
}

/// Why a coefficient is not looked for in means.
fn not_looked_at(coefficient: Coefficient) -> String {
    match coefficient {
        Coefficient::CKvUs => {
            "the metrics do not say how many tokens of context there are (a prefix cache shares blocks, or there is no such gauge)"
        }
        Coefficient::CAttnUsPerToken2 => "means do not tell long prompts from many",
        _ => {
            "metrics do not show where in a step requests come: it is put so that first tokens come out right on average"
        }
    }
    .to_owned()
}
