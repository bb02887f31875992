//! The never-seen filter: which identities a lane has certainly never written, without asking the index.
//!
//! A Bloom filter that grows in layers filled to 16 bits per key: while it is small each is twice as large as the one
//! before, so that they are few; then each holds half of what is there, because memory is what a large one costs. A false
//! positive costs one look-up in the index; a false negative would make a second row, and cannot happen: keys are
//! only ever added, and a layer answers for everything put into it.

use fastbloom::BloomFilter;
use tributary_schemas::identity::Identity;

/// Bits per key in a full layer: about one false positive in 2,000 per layer.
const BITS_PER_KEY: usize = 16;
/// Hashes per key: the optimum for [`BITS_PER_KEY`].
const HASHES: u32 = 11;
/// Keys of the smallest layer (8 KiB).
const SMALLEST: usize = 4_096;
/// Keys from which on a filter is large (512 KiB).
const LARGE: usize = 1 << 18;
/// A new layer of a large filter holds one key for so many that are there.
const LARGE_GROWS_BY: usize = 2;

/// Which identities may have been written before.
#[derive(Debug)]
pub struct SeenFilter {
    layers: Vec<Layer>,
    len: usize,
}

#[derive(Debug)]
struct Layer {
    bits: BloomFilter,
    capacity: usize,
    len: usize,
}

impl Layer {
    fn new(capacity: usize) -> Self {
        // The seed is fixed: keys are 128 bits of BLAKE3, which no sender can steer, and `insert_hash` is given
        // their first half as it stands.
        let bits = BloomFilter::with_num_bits(capacity * BITS_PER_KEY).seed(&0).hashes(HASHES);
        Self { bits, capacity, len: 0 }
    }
}

impl SeenFilter {
    /// An empty filter whose first layer holds `expected` keys.
    pub fn with_capacity(expected: usize) -> Self {
        Self { layers: vec![Layer::new(expected.max(SMALLEST))], len: 0 }
    }

    /// False: certainly never inserted. True: probably inserted.
    pub fn may_contain(&self, identity: &Identity) -> bool {
        let hash = hash_of(identity);
        // Newest layer first: it is the largest.
        self.layers.iter().rev().any(|layer| layer.bits.contains_hash(hash))
    }

    /// Adds an identity; one that is probably there already costs no room.
    pub fn insert(&mut self, identity: &Identity) {
        if self.may_contain(identity) {
            // Present, or a false positive: either way the answer for it stays "may contain" for ever.
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.len >= layer.capacity) {
            self.layers.push(Layer::new(self.next_capacity()));
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.bits.insert_hash(hash_of(identity));
            layer.len += 1;
            self.len += 1;
        }
    }

    /// Takes in all that another one has.
    pub fn absorb(&mut self, other: Self) {
        self.len += other.len;
        // Before its own, for new ones go into the last.
        self.layers.splice(0..0, other.layers);
    }

    fn next_capacity(&self) -> usize {
        if self.len >= LARGE {
            return self.len / LARGE_GROWS_BY;
        }
        self.layers.last().map_or(SMALLEST, |layer| layer.capacity * 2)
    }

    /// Keys that took room, which is the number inserted but for false positives.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first insert.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of the layers, in bytes.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bits.num_bits() / 8).sum()
    }
}

fn hash_of(identity: &Identity) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = identity.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(n: u64) -> Identity {
        // SplitMix64 stands in for BLAKE3.
        let mix = |mut z: u64| {
            z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mix(n).to_le_bytes());
        bytes[8..].copy_from_slice(&mix(!n).to_le_bytes());
        Identity(bytes)
    }

    proptest! {
        #[test]
        fn what_was_inserted_is_always_found(keys in prop::collection::vec(any::<[u8; 16]>(), 0..2_000), expected in 0usize..10) {
            let mut filter = SeenFilter::with_capacity(expected);
            let mut halves = [SeenFilter::with_capacity(expected), SeenFilter::with_capacity(0)];
            for (n, key) in keys.iter().enumerate() {
                halves[n % 2].insert(&Identity(*key));
            }
            let [mut both, half] = halves;
            both.absorb(half);
            for key in &keys {
                prop_assert!(both.may_contain(&Identity(*key)));
            }
            for (n, key) in keys.iter().enumerate() {
                filter.insert(&Identity(*key));
                for earlier in &keys[..=n.min(16)] {
                    prop_assert!(filter.may_contain(&Identity(*earlier)));
                }
            }
            for key in &keys {
                prop_assert!(filter.may_contain(&Identity(*key)));
            }
        }
    }

    #[test]
    fn it_grows_and_stays_exact_enough_and_small() {
        let mut filter = SeenFilter::with_capacity(0);
        let keys = 200_000;
        for n in 0..keys {
            filter.insert(&spread(n));
        }
        assert!((0..keys).all(|n| filter.may_contain(&spread(n))));
        let wrong = (keys..2 * keys).filter(|n| filter.may_contain(&spread(*n))).count();
        assert!(wrong < 2_000, "{wrong} of {keys} unknown keys would be looked up");
        let bits = filter.bytes() * 8 / usize::try_from(keys).unwrap();
        assert!(bits <= 2 * BITS_PER_KEY + 8, "{bits} bits per key");
    }

    /// As after a start: full when it is opened, and then the first new key comes.
    #[test]
    fn a_large_one_that_grows_takes_half_as_much_again() {
        let (keys, more) = (LARGE as u64 + 1_000, 5_000);
        let mut filter = SeenFilter::with_capacity(LARGE + 1_000);
        (0..keys).for_each(|n| filter.insert(&spread(n)));
        let full = filter.bytes();
        (keys..keys + more).for_each(|n| filter.insert(&spread(n)));
        assert!((0..keys + more).all(|n| filter.may_contain(&spread(n))));
        let grown = filter.bytes();
        assert!(grown > full && grown * 100 <= full * 151, "from {full} to {grown} bytes");
    }
}
