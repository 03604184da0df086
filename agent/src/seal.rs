//! Seals a join token to the one VM that shall join, so that OneGate and the cloud's database never hold it readable
//! (invariant 8).
//!
//! A joiner publishes its public key, a master answers with an envelope on the joiner's own attributes. HPKE in base
//! mode (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305); the associated data binds the envelope to service, VM,
//! role and cluster, so that it opens nowhere else. It says nothing about who sealed it: any VM of a service can write
//! to its fellows, and the trust boundary is the service (onegate.md, "Trust").
//!
//! This module has no randomness of its own: entropy comes in, and the same arguments give the same envelope.

use std::convert::Infallible;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal_with_rng,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::plan::Secret;
use crate::service::{Role, VmId};

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Names the use and its version: a change of form changes this, and old envelopes do not open by accident.
const INFO: &[u8] = b"oneke-agent join token 1";

/// An X25519 share: the first bytes of an envelope.
const ENCAPPED_BYTES: usize = 32;

/// Whom an envelope is for. Both sides must mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The service.
    pub service: u32,
    /// The VM that joins.
    pub vm: VmId,
    /// As what it joins.
    pub role: Role,
    /// The cluster: [`crate::token::ca_hash`] of its CA.
    pub cluster: String,
}

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The published key is none: damaged, or of another form.
    #[error("the joiner's public key is not an X25519 key in base64")]
    PublicKey,
    /// The text is too short, or not base64.
    #[error("the sealed token is not an envelope in base64")]
    Envelope,
    /// Another key, another VM, service, role or cluster, or damaged on its way.
    #[error("the sealed token does not open: it was sealed to another key, VM, role, service or cluster")]
    Closed,
}

/// A joiner's key pair. It lives as long as its seed: keep that in a file of mode 0600.
pub struct KeyPair {
    private: PrivateKey,
    public: PublicKey,
}

impl KeyPair {
    /// The key pair of a seed of full entropy; always the same one.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(seed);
        Self { private, public }
    }

    /// The public half as text that survives OneGate: 44 characters.
    pub fn public(&self) -> String {
        STANDARD.encode(self.public.to_bytes())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair {{ public: {}, .. }}", self.public())
    }
}

/// 32 bytes written as 64 hexadecimal digits, as [`crate::facts::Facts::entropy`] holds them.
pub fn bytes_of_hex(text: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.expose().trim().as_bytes();
    let mut bytes = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |ascii: u8| char::from(ascii).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

/// Seals a token to the holder of `public`; the text survives OneGate.
///
/// `entropy` must be new for each call. Should it repeat, two envelopes still never share a key unless they are the
/// same envelope: everything that goes in is hashed into the ephemeral key.
///
/// # Errors
/// [`SealError::PublicKey`].
pub fn seal(public: &str, to: &Context, token: &Secret, entropy: &[u8; 32]) -> Result<String, SealError> {
    let key = STANDARD.decode(public.trim()).map_err(|_| SealError::PublicKey)?;
    let recipient = PublicKey::from_bytes(&key).map_err(|_| SealError::PublicKey)?;
    let (data, plaintext) = (associated(to), token.expose().as_bytes());
    let mut stream = HashStream::new(&[entropy, &key, &data, plaintext]);
    let (encapped, ciphertext) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &recipient,
        INFO,
        plaintext,
        &data,
        &mut stream,
    )
    .map_err(|_| SealError::PublicKey)?;
    Ok(STANDARD.encode([encapped.to_bytes().as_slice(), &ciphertext].concat()))
}

/// Opens what was sealed to this key pair, for this context.
///
/// # Errors
/// [`SealError::Envelope`] and [`SealError::Closed`].
pub fn open(keys: &KeyPair, to: &Context, sealed: &str) -> Result<Secret, SealError> {
    let envelope = STANDARD.decode(sealed.trim()).map_err(|_| SealError::Envelope)?;
    let (share, ciphertext) = envelope.split_at_checked(ENCAPPED_BYTES).ok_or(SealError::Envelope)?;
    let encapped = EncappedKey::from_bytes(share).map_err(|_| SealError::Envelope)?;
    let plaintext = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &keys.private,
        &encapped,
        INFO,
        ciphertext,
        &associated(to),
    )
    .map(Zeroizing::new)
    .map_err(|_| SealError::Closed)?;
    std::str::from_utf8(&plaintext).map(Secret::new).map_err(|_| SealError::Closed)
}

/// Each part with its length in front, so that no two contexts read alike.
fn associated(to: &Context) -> Vec<u8> {
    let parts = [to.service.to_string(), to.vm.to_string(), to.role.to_string(), to.cluster.clone()];
    parts.iter().map(|part| format!("{}:{part}", part.len())).collect::<String>().into_bytes()
}

/// A stream of bytes that looks random to whoever does not know all that was hashed into it.
struct HashStream {
    key: Zeroizing<[u8; 32]>,
    blocks: u64,
}

impl HashStream {
    fn new(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self { key: Zeroizing::new(hash.finalize().into()), blocks: 0 }
    }

    fn block(&mut self) -> Zeroizing<[u8; 32]> {
        self.blocks += 1;
        let hash = Sha256::new().chain_update(*self.key).chain_update(self.blocks.to_be_bytes());
        Zeroizing::new(hash.finalize().into())
    }
}

impl TryRng for HashStream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for chunk in target.chunks_mut(32) {
            chunk.copy_from_slice(&self.block()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for HashStream {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::AttributeValue;

    fn to_master_7() -> Context {
        Context { service: 1, vm: VmId(7), role: Role::Master, cluster: "c0ffee".into() }
    }

    fn sealed(text: &str) -> (KeyPair, String) {
        let keys = KeyPair::from_seed(&[7; 32]);
        let envelope = seal(&keys.public(), &to_master_7(), &Secret::new(text), &[9; 32]).unwrap();
        (keys, envelope)
    }

    #[test]
    fn what_is_sealed_opens_for_whom_it_is() {
        let (keys, envelope) = sealed("K10token");
        assert_eq!(open(&keys, &to_master_7(), &envelope).unwrap().expose(), "K10token");
        let restarted = KeyPair::from_seed(&[7; 32]);
        assert_eq!(open(&restarted, &to_master_7(), &envelope).unwrap().expose(), "K10token");
    }

    #[test]
    fn it_opens_nowhere_else() {
        let (keys, envelope) = sealed("K10token");
        let moved = [
            Context { service: 2, ..to_master_7() },
            Context { vm: VmId(8), ..to_master_7() },
            Context { role: Role::Storage, ..to_master_7() },
            Context { cluster: "c0ffe".into(), ..to_master_7() },
        ];
        for context in moved {
            assert_eq!(open(&keys, &context, &envelope), Err(SealError::Closed), "{context:?}");
        }
        let other = KeyPair::from_seed(&[8; 32]);
        assert_eq!(open(&other, &to_master_7(), &envelope), Err(SealError::Closed));
    }

    #[test]
    fn damage_is_noticed_at_every_byte() {
        let (keys, envelope) = sealed("K10token");
        let bytes = STANDARD.decode(envelope).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(open(&keys, &to_master_7(), &STANDARD.encode(&damaged)).is_err(), "byte {at}");
            assert!(open(&keys, &to_master_7(), &STANDARD.encode(&bytes[..at])).is_err(), "cut at {at}");
        }
        assert_eq!(open(&keys, &to_master_7(), "not base64"), Err(SealError::Envelope));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let zeros = STANDARD.encode([0; 32]);
        for public in ["", "x", "c2hvcnQ=", zeros.as_str()] {
            let refused = seal(public, &to_master_7(), &Secret::new("t"), &[0; 32]);
            assert_eq!(refused, Err(SealError::PublicKey), "{public:?}");
        }
    }

    #[test]
    fn envelopes_differ_even_if_the_entropy_repeats() {
        let share = |text: &str| STANDARD.decode(sealed(text).1).unwrap()[..ENCAPPED_BYTES].to_vec();
        assert_ne!(share("one"), share("two"));
        assert_eq!(share("one"), share("one"));
    }

    #[test]
    fn keys_and_envelopes_survive_onegate() {
        let (keys, envelope) = sealed(&"t".repeat(200));
        assert!(AttributeValue::new(keys.public()).is_ok());
        assert!(AttributeValue::new(envelope).is_ok());
    }

    #[test]
    fn entropy_reads_from_hex() {
        assert_eq!(
            bytes_of_hex(&Secret::new("0aF".to_owned() + &"0".repeat(61))).unwrap()[..2],
            [0x0a, 0xf0]
        );
        for text in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bytes_of_hex(&Secret::new(text)).is_none(), "{text}");
        }
    }
}
