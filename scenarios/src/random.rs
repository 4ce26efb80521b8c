//! Keyed randomness: a draw depends on what it is for, never on when it is asked for.
//!
//! ```text
//! (seed, purpose, ids...) --hash--> 64 bits --> one value, or the seed of a stream of its own
//! ```
//!
//! These are *common random numbers*: two rollouts simulated on the same futures meet the same requests, start-up times
//! and back-offs whatever the order in which they ask, and a new purpose shifts no other. Bits depend on the seed, the
//! purpose's text and the ids alone; integers throughout, so they are the same on every platform. (Values computed from
//! them through `ln` or `exp` are the same for the same build.)

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// The randomness of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    seed: u64,
}

impl Keyed {
    /// The randomness of the run with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// 64 uniform bits for this purpose and these ids (replica, request, turn, attempt, ...).
    #[must_use]
    pub const fn bits(self, purpose: &str, ids: &[u64]) -> u64 {
        self.purpose(purpose).bits(ids)
    }

    /// What all draws for this purpose begin with: where many are made, it need be computed only once.
    #[must_use]
    pub const fn purpose(self, purpose: &str) -> Purpose {
        let state = mix(self.seed ^ 0x736c_6163_6b77_6174);
        Purpose { state: mix(state ^ name_hash(purpose)) }
    }

    /// A uniform draw from [0, 1) for this purpose and these ids.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub const fn uniform(self, purpose: &str, ids: &[u64]) -> f64 {
        (self.bits(purpose, ids) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A stream of its own for this purpose and these ids.
    #[must_use]
    pub fn stream(self, purpose: &str, ids: &[u64]) -> Xoshiro256PlusPlus {
        self.purpose(purpose).stream(ids)
    }
}

/// The randomness of one purpose of a run: the same draws as [`Keyed`]'s, without hashing the purpose's text for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    state: u64,
}

impl Purpose {
    /// As [`Keyed::bits`].
    #[inline]
    #[must_use]
    pub const fn bits(self, ids: &[u64]) -> u64 {
        // Mixing after each word makes the order and the number of ids count.
        let mut state = self.state;
        let mut index = 0;
        while index < ids.len() {
            state = mix(state.wrapping_add(GOLDEN) ^ ids[index]);
            index += 1;
        }
        mix(state ^ ids.len() as u64)
    }

    /// As [`Keyed::stream`].
    #[inline]
    #[must_use]
    pub fn stream(self, ids: &[u64]) -> Xoshiro256PlusPlus {
        // What `seed_from_u64` does, by four words that do not wait for each other.
        let seed = self.bits(ids);
        let mut bytes = [0; 32];
        for (number, word) in (1_u64..).zip(bytes.chunks_exact_mut(8)) {
            word.copy_from_slice(&mix(seed.wrapping_add(GOLDEN.wrapping_mul(number))).to_le_bytes());
        }
        Xoshiro256PlusPlus::from_seed(bytes)
    }
}

/// SplitMix64's step.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: every input bit changes every output bit with probability one half.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// FNV-1a over the purpose's text; purposes are a handful of names in the source.
const fn name_hash(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_stream_is_the_generators_own_of_the_same_bits() {
        for (seed, id) in [(0, 0), (1, 7), (u64::MAX, 1 << 60), (42, u64::MAX)] {
            let keyed = Keyed::new(seed);
            let mut own = Xoshiro256PlusPlus::seed_from_u64(keyed.bits("traffic.input", &[id]));
            let mut ours = keyed.stream("traffic.input", &[id]);
            for _ in 0..5 {
                assert_eq!(ours.next_u64(), own.next_u64());
            }
        }
    }
}
