//! The tunnel between a client at the gateway and a node: frames both ways. To the node on `mesh.tunnel.<node>`; from it
//! on `mesh.node.<node>.gateway.<tunnel>`, which the gateway process that holds the tunnel hears. The node answers
//! nobody but a tunnel that was opened by [`Frame::Open`], and each end closes after [`SILENCE_SECONDS`] of silence.

use mesh_types::Token;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Each end says at least [`Frame::Ping`] so often.
pub const PING_SECONDS: u64 = 10;
pub const SILENCE_SECONDS: u64 = 30;
/// A tunnel is closed after so long, whatever happens; its client opens another.
pub const LIFE_SECONDS: u64 = 4 * 3600;
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// One frame with its place in its direction, from 1: a gap or a repetition is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// `tun_` and a ULID: the token that the answer's subject ends with.
    pub tunnel: Token,
    pub seq: u64,
    #[serde(flatten)]
    pub frame: Frame,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Frame {
    /// The gateway has checked who it is: the owner, or whom the node's sharing lets in.
    Open {
        /// `user:ann`, or `dev`.
        actor: String,
        owner: bool,
    },
    Opened {
        incarnation: u64,
    },
    /// To the node: a message of the client; `kind` such as `chat`. From the node: what comes of it.
    Message {
        /// Names the exchange that it belongs to.
        id: String,
        kind: String,
        body: Value,
    },
    /// Tokens of a running exchange, in order.
    Token {
        id: String,
        text: String,
    },
    /// The exchange is over.
    Done {
        id: String,
        body: Value,
    },
    Failed {
        id: String,
        problem: mesh_types::Problem,
    },
    Ping,
    Close {
        reason: String,
    },
}
