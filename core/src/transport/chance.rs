//! What the QUIC stack draws by chance, in tests: on the simulated network it comes from a seed, so that a
//! run can be repeated.

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use s2n_quic::provider::random;
use s2n_quic_core::connection::{
    LocalId,
    id::{ConnectionInfo, Generator, Validator},
};

use super::reset::Role;

const ID_LEN: usize = 16;

/// Of one endpoint.
pub(super) struct Chance(StdRng);

impl Chance {
    /// From what makes the process itself another each time.
    pub(super) fn of(instance: u64, role: Role) -> Self {
        if !turmoil::in_simulation() {
            return Self(StdRng::from_os_rng());
        }
        Self(StdRng::seed_from_u64(instance ^ u64::from(role == Role::Dials)))
    }

    /// For the ids of connections, which have a source of their own.
    pub(super) fn ids(&mut self) -> Ids {
        Ids(StdRng::seed_from_u64(self.0.random()))
    }
}

impl random::Provider for Chance {
    type Generator = Self;
    type Error = std::convert::Infallible;

    fn start(self) -> Result<Self, Self::Error> {
        Ok(self)
    }
}

impl random::Generator for Chance {
    fn public_random_fill(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    fn private_random_fill(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }
}

/// Ids like the stack's own.
pub(super) struct Ids(StdRng);

impl Generator for Ids {
    fn generate(&mut self, _: &ConnectionInfo<'_>) -> LocalId {
        let id: [u8; ID_LEN] = self.0.random();
        LocalId::try_from_bytes(&id).expect("it is as long as an id may be")
    }

    fn rotate_handshake_connection_id(&self) -> bool {
        true
    }
}

impl Validator for Ids {
    fn validate(&self, _: &ConnectionInfo<'_>, buffer: &[u8]) -> Option<usize> {
        (buffer.len() >= ID_LEN).then_some(ID_LEN)
    }
}
