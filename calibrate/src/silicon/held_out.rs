//! Efficiencies fitted to some GPUs and models, and how far presets are off on the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use slackwater_scenarios::presets::{Efficiencies, Efficiency, Generation, HeldOut};

use super::case::{Case, cases};
use super::errors::{Compared, Errors};
use super::factors::{FACTORS, FactorLoss, fit_factors};
use super::public_points::{PublicPoint, public_points};
use super::rows::{SiliconError, read_silicon};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct SiliconOptions {
    /// Of the clients' draws.
    pub seed: u64,
    /// Whether efficiencies are fitted anew, each model and each pair held out in turn (minutes); else the presets as they
    /// are, alone (seconds).
    pub refit: bool,
    /// Most steps of the optimiser in each of its two rounds.
    pub iterations: u64,
}

impl Default for SiliconOptions {
    fn default() -> Self {
        Self { seed: 1, refit: true, iterations: 100 }
    }
}

/// Everything that is found.
#[derive(Debug, Clone, Serialize)]
pub struct Silicon {
    /// Rows of the file.
    pub rows: usize,
    /// Rows that a preset can say.
    pub said: usize,
    /// The others, by reason.
    pub refused: BTreeMap<String, usize>,
    /// What was assumed of servers and clients, in words.
    pub assumed: Vec<String>,
    /// By generation and format of the products.
    pub groups: Vec<GroupResult>,
    /// One H100 with Qwen3-14B, at Poisson arrivals.
    pub public_points: Vec<PublicPoint>,
    /// Each row as the presets of this version say it.
    pub compared: Vec<Compared>,
}

/// GPUs of a generation whose products are of one format.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Group {
    /// The generation.
    pub generation: Generation,
    /// The format of the products: `bf16`, `fp8`, `fp4`.
    pub format: String,
}

/// What is known of a group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupResult {
    /// Which.
    pub group: Group,
    /// Its models on vLLM.
    pub models: Vec<String>,
    /// The models that a fit for it sees: its own, or all of the generation where it has but one.
    pub fitted_to: Vec<String>,
    /// The presets of this version.
    pub presets: Option<Errors>,
    /// The same on the pairs of GPU and model that their efficiencies were fitted to.
    pub pairs_fitted: Option<Errors>,
    /// The same on the other pairs.
    pub pairs_not_fitted: Option<Errors>,
    /// How far off they were on models that they were not fitted to, as every answer on such a preset says.
    pub said: Option<HeldOut>,
    /// The one fit on an H100 that stands where nothing was measured.
    pub one_fit: Option<Errors>,
    /// Fitted anew; `None` when that was not asked for.
    pub refitted: Option<Refitted>,
    /// sglang, which schedules otherwise than the engine model and took no part in any fit, by the presets.
    pub sglang: Option<Errors>,
    /// The presets by GPU, model, format of the weights.
    pub sets: Vec<Set>,
}

/// Errors of one GPU, model and format of the weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Set {
    /// The GPU.
    pub gpu: String,
    /// The model.
    pub model: String,
    /// How its weights are stored.
    pub precision: String,
    /// Whether the efficiencies of this version's presets were fitted to the pair.
    pub fitted: bool,
    /// How far off.
    pub errors: Errors,
}

/// A group's efficiencies fitted anew.
#[derive(Debug, Clone, Serialize)]
pub struct Refitted {
    /// To all of the group, or of the generation where the group has but one model.
    pub reached: Efficiencies,
    /// At these.
    pub fitted: Option<Errors>,
    /// Each model by efficiencies fitted to the other models.
    pub models_held_out: Option<Errors>,
    /// The same, by GPU, model and format of the weights.
    pub sets_held_out: Vec<Set>,
    /// Each pair of GPU and model by efficiencies fitted to the other pairs.
    pub pairs_held_out: Option<Errors>,
}

/// Holds the presets against the file.
///
/// # Errors
/// When the file can't be used.
pub fn silicon(path: &Path, options: SiliconOptions) -> Result<Silicon, SiliconError> {
    let rows = read_silicon(path)?;
    let (said, refused) = cases(&rows, options.seed);
    if said.is_empty() {
        return Err(SiliconError::Nothing {
            path: path.to_owned(),
            what: "no row that a preset can say".to_owned(),
        });
    }
    let of = |case: &Case| {
        let (generation, format) = key(case);
        Group { generation, format: format.to_owned() }
    };
    let keys: BTreeSet<Group> = said.iter().map(of).collect();
    let compared = compare(&said.iter().collect::<Vec<_>>(), options.seed, Case::shipped);
    let groups = keys
        .into_iter()
        .map(|group| {
            let in_group: Vec<&Case> = said.iter().filter(|case| of(case) == group).collect();
            group_result(group, &in_group, &said, &compared, options)
        })
        .collect();
    Ok(Silicon {
        rows: rows.len(),
        said: said.len(),
        refused,
        assumed: super::case::ASSUMED.iter().map(|&words| words.to_owned()).collect(),
        groups,
        public_points: public_points(options.seed),
        compared,
    })
}

fn key(case: &Case) -> (Generation, &'static str) {
    (case.preset.gpu.generation, case.preset.precision().rate(&case.preset.gpu).1)
}

/// Each case at the efficiencies that `reached` gives it, in their order.
fn compare(cases: &[&Case], seed: u64, reached: impl Fn(&Case) -> Efficiencies + Sync) -> Vec<Compared> {
    cases.par_iter().filter_map(|case| case.compare(&reached(case), seed)).collect()
}

fn group_result(
    group: Group,
    cases: &[&Case],
    all: &[Case],
    compared: &[Compared],
    options: SiliconOptions,
) -> GroupResult {
    let vllm: Vec<&Case> = cases.iter().copied().filter(|case| case.is_vllm()).collect();
    let models = |of: &mut dyn Iterator<Item = &Case>| -> Vec<String> {
        of.map(|case| case.model().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let own = models(&mut vllm.iter().copied());
    let fitted_to = match own.len() {
        ..=1 => models(&mut of_generation(all, group.generation).into_iter()),
        _ => own.clone(),
    };
    let places: BTreeSet<usize> = cases.iter().map(|case| case.row).collect();
    let ours: Vec<&Compared> = compared.iter().filter(|row| places.contains(&row.row)).collect();
    let of_vllm = || ours.iter().copied().filter(|row| row.backend == "vllm");
    let general = Efficiency::not_measured().reached;
    let one_fit = compare(&vllm, options.seed, |_| general);
    let shipped = Efficiency::of(group.generation, &group.format);
    let fitted = |row: &&Compared| shipped.was_fitted_to(&row.gpu, &row.model);
    GroupResult {
        models: own,
        fitted_to,
        presets: Errors::of(of_vllm()),
        pairs_fitted: Errors::of(of_vllm().filter(fitted)),
        pairs_not_fitted: Errors::of(of_vllm().filter(|row| !fitted(row))),
        said: shipped.held_out.clone(),
        one_fit: Errors::of(&one_fit),
        refitted: options.refit.then(|| refit(&group, &vllm, all, options)),
        sglang: Errors::of(ours.iter().copied().filter(|row| row.backend != "vllm")),
        sets: sets(of_vllm(), &shipped),
        group,
    }
}

fn sets<'a>(rows: impl Iterator<Item = &'a Compared> + Clone, shipped: &Efficiency) -> Vec<Set> {
    let key = |row: &Compared| (row.gpu.clone(), row.model.clone(), row.precision.clone());
    let keys: BTreeSet<_> = rows.clone().map(key).collect();
    keys.into_iter()
        .filter_map(|found| {
            let errors = Errors::of(rows.clone().filter(|row| key(row) == found))?;
            let (gpu, model, precision) = found;
            let fitted = shipped.was_fitted_to(&gpu, &model);
            Some(Set { gpu, model, precision, fitted, errors })
        })
        .collect()
}

fn of_generation(all: &[Case], generation: Generation) -> Vec<&Case> {
    all.iter().filter(|case| case.is_vllm() && case.preset.gpu.generation == generation).collect()
}

/// Fits the group as it is shipped, and without each of its models and pairs.
fn refit(group: &Group, cases: &[&Case], all: &[Case], options: SiliconOptions) -> Refitted {
    let generation = of_generation(all, group.generation);
    let without = |left_out: &(dyn Fn(&Case) -> bool + Sync)| {
        // A fit needs two models, or it takes the one's ways for the GPU's.
        let models =
            |cases: &[&Case]| cases.iter().map(|case| case.model().to_owned()).collect::<BTreeSet<_>>().len();
        let own: Vec<&Case> = cases.iter().copied().filter(|case| !left_out(case)).collect();
        let rest: Vec<&Case> = generation.iter().copied().filter(|case| !left_out(case)).collect();
        let fitted_to = if models(&own) >= 2 { own } else { rest };
        let loss = FactorLoss::new(thinned(&fitted_to), &FACTORS, base(), options.seed);
        fit_factors(&loss, options.iterations)
    };
    let held_out = |keys: BTreeSet<(String, String)>,
                    same: &(dyn Fn(&Case, &(String, String)) -> bool + Sync)| {
        let rows: Vec<Vec<Compared>> = keys
            .par_iter()
            .map(|key| {
                let reached = without(&|case| same(case, key));
                let tested: Vec<&Case> = cases.iter().copied().filter(|case| same(case, key)).collect();
                compare(&tested, options.seed, |_| reached)
            })
            .collect();
        rows.into_iter().flatten().collect::<Vec<_>>()
    };
    let models = cases.iter().map(|case| (case.model().to_owned(), String::new())).collect();
    let by_model = held_out(models, &|case, key| case.model() == key.0);
    let pairs = cases.iter().map(|case| (case.model().to_owned(), case.preset.gpu.name.clone())).collect();
    let by_pair = held_out(pairs, &|case, key| case.model() == key.0 && case.preset.gpu.name == key.1);
    let reached = without(&|_| false);
    Refitted {
        reached,
        fitted: Errors::of(&compare(cases, options.seed, |_| reached)),
        models_held_out: Errors::of(&by_model),
        sets_held_out: sets(by_model.iter(), &Efficiency::of(group.generation, &group.format)),
        pairs_held_out: Errors::of(&by_pair),
    }
}

/// Where fits begin: the one fit on an H100, what a sequence cost there dealt to that model's 40 layers.
fn base() -> Efficiencies {
    const LAYERS: f64 = 40.0;
    let general = Efficiency::not_measured().reached;
    Efficiencies { sequence_us: 0.0, sequence_layer_us: general.sequence_us / LAYERS, ..general }
}

/// A fit's rows: at most four of each set-up, evenly from all, of 64 requests in flight and fewer (the others are as long
/// to replay as all these together).
fn thinned<'a>(cases: &[&'a Case]) -> Vec<&'a Case> {
    const MOST: usize = 4;
    const MOST_IN_FLIGHT: u32 = 64;
    let mut by_set_up = BTreeMap::<_, Vec<&Case>>::new();
    for case in cases.iter().filter(|case| case.concurrency <= MOST_IN_FLIGHT) {
        let preset = &case.preset;
        let set_up = (
            preset.gpu.name.as_str(),
            case.model(),
            preset.precision().to_string(),
            preset.setting.tensor_parallel,
        );
        by_set_up.entry(set_up).or_default().push(case);
    }
    let even = |cases: Vec<&'a Case>| {
        let taken = MOST.min(cases.len());
        (0..taken).map(move |place| cases[place * cases.len() / taken]).collect::<Vec<_>>()
    };
    by_set_up.into_values().flat_map(even).collect()
}
