//! A Markov chain solved by iteration, for what has no closed form.

/// Mean sojourn in two servers with exponential service of mean 1, when each of `rate` arrivals a second joins the
/// shorter queue: the stationary distribution of (shorter, longer), cut off where its mass is negligible.
pub(crate) fn shortest_of_two_queues(rate: f64) -> f64 {
    const LONGEST: usize = 70;
    let at = |shorter: usize, longer: usize| shorter * (LONGEST + 1) + longer;
    let mut mass = vec![0.0_f64; (LONGEST + 1) * (LONGEST + 1)];
    mass[0] = 1.0;
    let clock = rate + 2.0;
    let mut last = 0.0_f64;
    // Steps of the uniformised chain, until the mean number in the system stands still.
    for round in 0_u32..200_000 {
        let mut next = vec![0.0; mass.len()];
        for shorter in 0..=LONGEST {
            for longer in shorter..=LONGEST {
                let here = mass[at(shorter, longer)];
                if here < 1e-18 {
                    continue;
                }
                let mut flow = |one: usize, other: usize, share: f64| {
                    next[at(one.min(other), one.max(other))] += here * share / clock;
                };
                flow((shorter + 1).min(LONGEST), longer, rate);
                flow(shorter.saturating_sub(1), longer, 1.0);
                flow(shorter, longer.saturating_sub(1), 1.0);
            }
        }
        mass = next;
        if round % 100 == 99 {
            let number: f64 = (0..=LONGEST)
                .flat_map(|shorter| (shorter..=LONGEST).map(move |longer| (shorter, longer)))
                .map(|(shorter, longer)| (shorter + longer) as f64 * mass[at(shorter, longer)])
                .sum();
            if (number - last).abs() < 1e-7 {
                return number / rate;
            }
            last = number;
        }
    }
    panic!("the chain has not settled");
}

/// Without load nobody waits; and far below saturation two queues are hardly worse than one (M/M/2).
#[test]
fn the_chain_is_right_where_the_answer_is_known() {
    assert!((shortest_of_two_queues(0.01) - 1.0).abs() < 1e-3);
    // M/M/2 has a mean sojourn of 1 / (1 - load^2); the shortest queue of two is a little worse.
    let (load, measured) = (0.5_f64, shortest_of_two_queues(1.0));
    let pooled = 1.0 / (1.0 - load * load);
    assert!(measured > pooled && measured < 1.1 * pooled, "{measured} against {pooled}");
}
