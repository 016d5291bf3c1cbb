//! Why a tunnel ends here, and what is said where a frame does not fit.

use mesh_api::tunnel::{FRAME_BYTES_MAX, Frame};
use mesh_types::{Code, Problem};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The gateway said so: it is not told again.
    Closed,
    Silent,
    Old,
    Gap,
    Stopping,
    Lost,
}

impl Ending {
    /// What the gateway is told; `None`: it knows, or cannot be told.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Closed | Self::Lost => None,
            Self::Silent => Some("the node heard nothing of the gateway"),
            Self::Old => Some("the tunnel has lived its time; open another"),
            Self::Gap => Some("frames were lost on the way to the node"),
            Self::Stopping => Some("the node stops"),
        }
    }
}

/// In place of a frame over the limit; `None`: it belongs to no exchange.
pub(super) fn too_large(frame: &Frame) -> Option<Frame> {
    let (Frame::Message { id, .. } | Frame::Token { id, .. } | Frame::Done { id, .. } | Frame::Failed { id, .. }) =
        frame
    else {
        return None;
    };
    let detail = format!("the answer is over {FRAME_BYTES_MAX} bytes, more than a tunnel carries");
    Some(Frame::Failed {
        id: id.clone(),
        problem: Problem::new(Code::BodyTooLarge, detail),
    })
}
