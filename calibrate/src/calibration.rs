//! A fitted profile, with what is known of each of its numbers.

use serde::Serialize;
use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::alternatives::Alternative;
use slackwater_scenarios::calibration::{Calibration, HoldOut};

use crate::coefficients::{Coefficient, put};
use crate::experiment::Row;
use crate::figures::Spread;
use crate::fit::{Minimum, refine, search};
use crate::identify::{Estimate, Interval, Known, estimate, intervals};
use crate::limits::{Structure, limits};
use crate::objective::{Objective, Part, Requests};
use crate::prior::Prior;
use crate::steps::{Step, Steps};
use crate::validate::Rest;

/// What the fitted data reached: a scenario beyond it is predicted beyond what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reach {
    /// The longest prompt.
    pub prompt_tokens: u32,
    /// The longest prompt and answer together.
    pub context_tokens: u32,
    /// Most requests in flight at once.
    pub in_flight: u32,
}

/// A profile and how far it is known.
#[derive(Debug, Clone, Serialize)]
pub struct Fitted {
    /// The profile, with the limits of the first experiment it was fitted to.
    pub profile: EngineProfile,
    /// Each coefficient with its interval.
    pub coefficients: Vec<Estimate>,
    /// Whole sets of coefficients with which the data can live too: one coefficient at an end of its interval (or as far from its
    /// value as is tried), the others as they then fit best.
    pub alternatives: Vec<Alternative>,
    /// What the losses of all structures tried were, the chosen one's first.
    pub tried: Vec<Tried>,
    /// Requests (or steps) it was fitted to.
    pub fitted_to: usize,
    /// How far they reach; `None` for a table of steps.
    pub reach: Option<Reach>,
    /// Where the search began: a preset's title, or the data.
    pub began_at: String,
}

/// A structure and how well it fits.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tried {
    /// Which.
    #[serde(flatten)]
    pub structure: Structure,
    /// The loss of its best coefficients.
    pub loss: f64,
}

/// Nothing to fit to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Too few requests.
    #[error(
        "{requests} answered requests to fit to; at least {LEAST} are needed{}",
        if *.cut { ": take a later --fit-until" } else { "" }
    )]
    TooFew {
        /// How many there are.
        requests: usize,
        /// Whether a time cuts them.
        cut: bool,
    },
}

const LEAST: usize = 10;

/// Fits a profile to these parts together. `say` is told what is being done.
///
/// # Errors
/// When there is too little to fit to.
pub fn fit_requests(parts: &[Part<'_>], seed: u64, say: &(dyn Fn(&str) + Sync)) -> Result<Fitted, FitError> {
    let requests = parts.iter().map(Part::count).sum();
    let Some(first) = parts.first().filter(|_| requests >= LEAST) else {
        let cut = parts.iter().any(|part| {
            part.count() < part.experiment.rows.iter().filter(|row| row.answer.is_some()).count()
        });
        return Err(FitError::TooFew { requests, cut });
    };
    let prior = Prior::of(first.experiment);
    let free: Vec<usize> = (0..Coefficient::ALL.len()).collect();
    let candidates = Structure::candidates(first.experiment);
    say(&format!("fitting {requests} requests"));
    let mut tried: Vec<(Structure, Minimum)> = Vec::new();
    for structure in candidates {
        let objective = Requests::new(parts, structure, prior.clone(), seed);
        // Structures differ in details of the schedule: the coefficients of one are near those of the next.
        let minimum = match tried.first() {
            None => search(&objective, &prior.centre, &free, seed),
            Some((_, first)) => refine(&objective, Minimum::at(&objective, first.vector.clone()), &free),
        };
        tried.push((structure, minimum));
    }
    tried.sort_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
    let (structure, best) = tried[0].clone();
    say("looking how well each coefficient is known");
    let objective = Requests::new(parts, structure, prior.clone(), seed).rescaled(&best.vector);
    let best = refine(&objective, Minimum::at(&objective, best.vector), &free);
    let (best, known) = identified(&objective, best, &free);
    let reach = parts.iter().map(|part| reach(&part.experiment.rows, &part.fitted)).reduce(Reach::join);
    let (mut profile, _) = limits(first.experiment, structure);
    put(&best.vector, &mut profile);
    let names: Vec<&str> = parts.iter().map(|part| part.experiment.name.as_str()).collect();
    profile.source = format!("fitted to {requests} measured requests of {}", names.join(", "));
    let coefficients = known
        .iter()
        .map(|of| {
            let why = reach.and_then(|reach| why(Coefficient::ALL[of.axis], &profile, reach));
            estimate(of.axis, best.vector[of.axis], of.below, of.above, why)
        })
        .collect();
    Ok(Fitted {
        alternatives: alternatives(&known, &profile),
        profile,
        coefficients,
        tried: tried
            .iter()
            .map(|(structure, best)| Tried { structure: *structure, loss: best.loss })
            .collect(),
        fitted_to: requests,
        reach,
        began_at: prior.began_at(),
    })
}

/// Fits a profile to a table of steps. The front end is what a profile has unless told.
#[must_use]
pub fn fit_steps(
    steps: Vec<Step>,
    of: Option<&crate::Experiment>,
    seed: u64,
    say: &(dyn Fn(&str) + Sync),
) -> Fitted {
    say(&format!("fitting {} steps", steps.len()));
    let mut prior = of.map_or_else(|| Prior::of_steps(&steps), Prior::of);
    let fitted_to = steps.len();
    let has_pairs = steps.iter().any(|step| step.attention_pairs.is_some_and(|pairs| pairs > 0.0));
    if !has_pairs {
        // What attention costs is then within what a token costs.
        prior.centre[Coefficient::CAttnUsPerToken2.axis()] = Coefficient::CAttnUsPerToken2.range().0.ln();
    }
    let objective = Steps { prior: prior.clone().weighed(fitted_to), steps };
    let free = objective.free();
    let best = search(&objective, &prior.centre, &free, seed);
    let (best, known) = identified(&objective, best, &free);
    let structure = Structure::of(&crate::limits::plain());
    let mut profile = of.map_or_else(crate::limits::plain, |experiment| limits(experiment, structure).0);
    put(&best.vector, &mut profile);
    profile.front_end = slackwater_scenarios::FrontEnd::default();
    profile.source = format!("fitted to a table of {fitted_to} engine steps");
    let alternatives = alternatives_of_steps(&known, &profile);
    Fitted {
        alternatives,
        profile,
        coefficients: known
            .iter()
            .map(|of| estimate(of.axis, best.vector[of.axis], of.below, of.above, None))
            .collect(),
        tried: Vec::new(),
        fitted_to,
        reach: None,
        began_at: prior.began_at(),
    }
}

/// The intervals. While a better vector is met on the way, they are looked for anew, around that one: they are distances from
/// the vector that is returned.
pub(crate) fn identified<O: Objective>(
    objective: &O,
    mut best: Minimum,
    free: &[usize],
) -> (Minimum, Vec<Interval>) {
    let mut round = 0;
    loop {
        let (known, better) = intervals(objective, &best, free);
        match better {
            Some(better) if better.loss < best.loss * (1.0 - WORTH_IT) && round < ROUNDS => {
                best = refine(objective, better, free);
                round += 1;
            }
            _ => return (best, known),
        }
    }
}

/// How often intervals are looked for anew.
const ROUNDS: u32 = 4;
/// A share of the loss for which intervals are looked for again.
const WORTH_IT: f64 = 0.02;

/// The same of a fit that does not see the front end, which stays the profile's.
pub(crate) fn alternatives_of_steps(known: &[Interval], profile: &EngineProfile) -> Vec<Alternative> {
    let with_front_end = |alternative: Alternative| Alternative {
        inbound_ms: profile.front_end.inbound_ms,
        outbound_ms: profile.front_end.outbound_ms,
        ..alternative
    };
    let alternatives = alternatives(known, profile).into_iter().map(with_front_end);
    alternatives.filter(|of| of.differs_from(profile)).collect()
}

/// The ends of the intervals as sets of coefficients, where these differ from the profile's.
fn alternatives(known: &[Interval], profile: &EngineProfile) -> Vec<Alternative> {
    let of = |(axis, vector): (usize, &Vec<f64>)| {
        let mut other = profile.clone();
        put(vector, &mut other);
        Alternative::of(Coefficient::ALL[axis].name(), &other)
    };
    let ends = known.iter().flat_map(|of| of.ends.iter().map(|end| (of.axis, end)));
    ends.map(of).filter(|of| of.differs_from(profile)).collect()
}

impl Fitted {
    /// What is known of the profile, as it is written beside it; `hold_out` is how far off it is on what was held out of the fit.
    #[must_use]
    pub fn calibration(&self, date: String, hold_out: Option<HoldOut>) -> Calibration {
        let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let not_identified = self.coefficients.iter().filter(|of| of.known == Known::NotIdentified);
        let reach = self.reach;
        Calibration {
            date,
            engine: None,
            gpu: None,
            requests: whole(self.fitted_to),
            prompt_tokens_up_to: reach.map_or(0, |reach| reach.prompt_tokens),
            context_tokens_up_to: reach.map_or(0, |reach| reach.context_tokens),
            in_flight_up_to: reach.map_or(0, |reach| reach.in_flight),
            hold_out,
            watched: false,
            intervals: self.coefficients.iter().map(|of| (of.name.to_owned(), [of.low, of.high])).collect(),
            not_identified: not_identified.map(|of| of.name.to_owned()).collect(),
            alternatives: self.alternatives.clone(),
        }
    }
}

impl Rest {
    /// How far the means were off; `None` where there is nothing to compare.
    #[must_use]
    pub fn hold_out(&self) -> Option<HoldOut> {
        let off = |measured: Option<Spread>, predicted: Option<Spread>| {
            Some(predicted?.mean / measured?.mean - 1.0)
        };
        Some(HoldOut {
            requests: u32::try_from(self.measured.requests).unwrap_or(u32::MAX),
            ttft_mean: off(self.measured.ttft_s, self.predicted.ttft_s)?,
            tpot_mean: off(self.measured.tpot_s, self.predicted.tpot_s)?,
            e2e_mean: off(self.measured.e2e_s, self.predicted.e2e_s)?,
        })
    }
}

fn reach(rows: &[Row], fitted: &[bool]) -> Reach {
    let of: Vec<&Row> = rows.iter().zip(fitted).filter(|(_, fitted)| **fitted).map(|(row, _)| row).collect();
    let mut changes: Vec<(f64, i32)> = rows
        .iter()
        .filter_map(|row| Some((row.arrival_s, row.arrival_s + row.answer?.e2e_s)))
        .flat_map(|(from, to)| [(from, 1), (to, -1)])
        .collect();
    changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    let longest = |length: fn(&Row) -> u32| of.iter().map(|row| length(row)).max().unwrap_or(0);
    Reach {
        prompt_tokens: longest(|row| row.input_tokens),
        context_tokens: longest(|row| row.input_tokens.saturating_add(row.output_tokens)),
        in_flight: u32::try_from(most).unwrap_or(0),
    }
}

impl Reach {
    fn join(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.max(other.prompt_tokens),
            context_tokens: self.context_tokens.max(other.context_tokens),
            in_flight: self.in_flight.max(other.in_flight),
        }
    }
}

/// Why a coefficient may not show: what it can have added to a step at the most.
fn why(coefficient: Coefficient, profile: &EngineProfile, reach: Reach) -> Option<String> {
    let most = f64::from(reach.in_flight.min(profile.max_num_seqs));
    let share = |us: f64| 100.0 * us / (profile.c0_ms * 1e3 + us);
    match coefficient {
        Coefficient::CSeqUs => Some(format!(
            "at most {most:.0} sequences decode together: it makes at most {:.0} % of such a step",
            share(profile.c_seq_us * most)
        )),
        Coefficient::CKvUs => Some(format!(
            "contexts too short or too alike: up to {} tokens in {most:.0} sequences make at most {:.0} % of a step",
            reach.context_tokens,
            share(profile.c_kv_us * most * f64::from(reach.context_tokens))
        )),
        Coefficient::CAttnUsPerToken2 => {
            Some(format!("prompts too short: up to {} tokens", reach.prompt_tokens))
        }
        Coefficient::CTokUs => {
            Some("prompts too short or too alike: their steps hardly leave the floor".to_owned())
        }
        Coefficient::C0Ms => {
            Some("steps are seldom small enough to be at their floor, or always equally full".to_owned())
        }
        Coefficient::FrontEndMs => Some("it is small beside the engine's own times".to_owned()),
        Coefficient::InboundOverOutbound => {
            Some("only a client that waits for answers tells the way in from the way out".to_owned())
        }
    }
}
