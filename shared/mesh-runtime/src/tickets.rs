//! Tickets: what a node shows with each request for an invocation. Only `execution` can make one; every service can
//! check one, by the public key. The key belongs to the installation: a ticket outlives starts of every process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use mesh_api::node::Ticket;
use mesh_types::{Id, NodeId};

/// Tickets that are known to be good; past it all are forgotten and checked again.
const KNOWN_MAX: usize = 16_384;

/// Makes tickets.
pub struct TicketSigner {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for TicketSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketSigner(***)")
    }
}

impl TicketSigner {
    /// From 32 random bytes; `None` where they are not as many.
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self { pair })
    }

    /// Fills in the signature.
    pub fn sign(&self, node: &NodeId, ticket: &mut Ticket) {
        ticket.signature = hex::encode(self.pair.sign(&said(node, ticket)).as_ref());
    }

    /// 64 hexadecimal digits.
    pub fn public(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }

    /// Knows its tickets.
    pub fn verifier(&self) -> TicketVerifier {
        TicketVerifier::of(self.pair.public_key().as_ref().to_vec())
    }
}

/// Knows good tickets. A node shows the same one over and over: it is checked once.
pub struct TicketVerifier {
    public: Vec<u8>,
    /// By signature.
    known: Mutex<HashMap<String, (NodeId, Ticket)>>,
}

impl std::fmt::Debug for TicketVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketVerifier({})", hex::encode(&self.public))
    }
}

impl TicketVerifier {
    /// From a public key of 64 hexadecimal digits; `None` where it is none.
    pub fn from_public(public: &str) -> Option<Self> {
        let public = hex::decode(public).ok().filter(|bytes| bytes.len() == 32)?;
        Some(Self::of(public))
    }

    fn of(public: Vec<u8>) -> Self {
        Self {
            public,
            known: Mutex::default(),
        }
    }

    /// Whether this ticket was given to that node.
    pub fn verify(&self, node: &NodeId, ticket: &Ticket) -> bool {
        let is_known = |(of, known): &(NodeId, Ticket)| of == node && known == ticket;
        if self.known().get(&ticket.signature).is_some_and(is_known) {
            return true;
        }
        let Ok(signature) = hex::decode(&ticket.signature) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        if key.verify(&said(node, ticket), &signature).is_err() {
            return false;
        }
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(ticket.signature.clone(), (node.clone(), ticket.clone()));
        true
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, (NodeId, Ticket)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is signed. Names are tokens: none of them holds a line break.
fn said(node: &NodeId, ticket: &Ticket) -> Vec<u8> {
    let Ticket {
        tenant,
        agent,
        invocation,
        shard,
        epoch,
        issued_at,
        signature: _,
    } = ticket;
    let mut said = format!("mesh ticket 1\n{node}\n{tenant}\n{agent}\n").into_bytes();
    said.extend(invocation.as_u128().to_be_bytes());
    said.extend(shard.to_be_bytes());
    said.extend(epoch.to_be_bytes());
    said.extend(issued_at.as_micros().to_be_bytes());
    said
}

#[cfg(test)]
mod tests {
    use mesh_types::{InvocationId, Tenant, Timestamp};

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            tenant: Tenant::default(),
            agent: "sofia".parse().unwrap(),
            invocation: InvocationId::from_u128(7),
            shard: 3,
            epoch: 1,
            issued_at: Timestamp::from_millis(1_795_258_800_000),
            signature: String::new(),
        }
    }

    #[test]
    fn a_signature_is_of_all_that_the_ticket_says() {
        let signer = TicketSigner::from_seed(&[7; 32]).unwrap();
        assert!(TicketSigner::from_seed(&[7; 31]).is_none());
        let (node, other): (NodeId, NodeId) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        let mut good = ticket();
        signer.sign(&node, &mut good);
        let verifier = TicketVerifier::from_public(&signer.public()).unwrap();
        assert!(verifier.verify(&node, &good));
        assert!(verifier.verify(&node, &good), "it is known now");
        assert!(!verifier.verify(&other, &good));
        let changed = [
            Ticket {
                tenant: "t".parse().unwrap(),
                ..good.clone()
            },
            Ticket {
                agent: "a".parse().unwrap(),
                ..good.clone()
            },
            Ticket {
                invocation: InvocationId::from_u128(8),
                ..good.clone()
            },
            Ticket {
                shard: 4,
                ..good.clone()
            },
            Ticket {
                epoch: 2,
                ..good.clone()
            },
            Ticket {
                issued_at: Timestamp::EPOCH,
                ..good.clone()
            },
            Ticket {
                signature: "00".repeat(64),
                ..good.clone()
            },
            Ticket {
                signature: "no digits".into(),
                ..good.clone()
            },
        ];
        for changed in changed {
            assert!(!verifier.verify(&node, &changed), "{changed:?}");
        }
        let stranger = TicketSigner::from_seed(&[8; 32]).unwrap().verifier();
        assert!(!stranger.verify(&node, &good));
        assert!(TicketVerifier::from_public("7f").is_none());
    }
}
