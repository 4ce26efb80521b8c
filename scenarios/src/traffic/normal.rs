//! The normal distribution and the Gamma function, as far as lengths and gaps need them.

/// The normal distribution function to 1e-7 (Abramowitz and Stegun 7.1.26).
pub(crate) fn normal(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = series.iter().fold(0.0, |sum, factor| (sum + factor) * t) * (-z * z).exp() / 2.0;
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// Where the normal distribution function is this, by bisection, within 8 of the middle.
pub(crate) fn inverse_normal(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The logarithm of the Gamma function for positive numbers, to 1e-12: Stirling's series far enough out, and the recursion
/// back from there.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
    let (mut x, mut back) = (x, 0.0);
    while x < 12.0 {
        back += x.ln();
        x += 1.0;
    }
    let over = 1.0 / (x * x);
    let series = (1.0 / 12.0 - over * (1.0 / 360.0 - over * (1.0 / 1_260.0 - over / 1_680.0))) / x;
    (x - 0.5) * x.ln() - x + HALF_LN_TAU + series - back
}

/// The share of Gamma draws of this shape (and scale 1) that are no larger than `x`: its series below the mean, Lentz'
/// continued fraction of the rest above.
pub(crate) fn gamma_share(shape: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let scale = (shape * x.ln() - x - ln_gamma(shape)).exp();
    if x < shape + 1.0 {
        let (mut term, mut sum, mut at) = (1.0 / shape, 1.0 / shape, shape);
        for _ in 0..500 {
            at += 1.0;
            term *= x / at;
            sum += term;
            if term < sum * 1e-12 {
                break;
            }
        }
        return (sum * scale).min(1.0);
    }
    let mut b = x + 1.0 - shape;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for step in 1..500 {
        let a = -f64::from(step) * (f64::from(step) - shape);
        b += 2.0;
        d = 1.0 / (a * d + b);
        c = b + a / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-12 {
            break;
        }
    }
    (1.0 - fraction * scale).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_function() {
        for (x, value) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (3.0, 0.998_650_1)] {
            assert!((normal(x) - value).abs() < 2e-7, "{x}: {}", normal(x));
            assert!((inverse_normal(value) - x).abs() < 1e-4, "{value}: {}", inverse_normal(value));
        }
    }

    #[test]
    fn the_gamma_distribution_function() {
        for x in [0.1, 1.0, 3.0, 12.0] {
            assert!((gamma_share(1.0, x) - (1.0 - f64::exp(-x))).abs() < 1e-10);
            assert!((gamma_share(2.0, x) - (1.0 - (1.0 + x) * f64::exp(-x))).abs() < 1e-10);
            // Half of a squared normal draw.
            assert!((gamma_share(0.5, x) - (2.0 * normal((2.0 * x).sqrt()) - 1.0)).abs() < 1e-6);
        }
        assert!(gamma_share(3.0, 0.0).abs() < 1e-12 && (gamma_share(0.2, 900.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_gamma_function() {
        let root_of_pi = std::f64::consts::PI.sqrt();
        for (x, value) in [
            (1.0, 1.0),
            (5.0, 24.0),
            (0.5, root_of_pi),
            (2.5, 0.75 * root_of_pi),
            (20.0, 121_645_100_408_832_000.0),
        ] {
            assert!((ln_gamma(x) - f64::ln(value)).abs() < 1e-11, "{x}: {}", ln_gamma(x));
        }
    }
}
