//! Repeatable chance: the same seed gives the same run.

/// SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state, good enough to shake a simulation.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True once in `n` on average; never for 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        n != 0 && self.bits().is_multiple_of(u64::from(n))
    }

    /// 16 bytes: the size of a OneGate token before base64.
    pub fn block(&mut self) -> [u8; 16] {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&self.bits().to_be_bytes());
        block[8..].copy_from_slice(&self.bits().to_be_bytes());
        block
    }
}
