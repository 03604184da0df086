//! The vnf role's variables: addresses, balancing, routing, NAT, names.

/// What a vnf VM shall do.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VnfConfig {}
