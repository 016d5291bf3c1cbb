//! Why a tunnel ended, as its client and its node are told.

/// The first cause counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its client closed it.
    Left,
    /// Its node closed it, with its words.
    ByNode(String),
    /// Its node said nothing for too long.
    Silent,
    /// Frames of the node are missing, or are none.
    Broken(&'static str),
    /// Who opened it may not speak to the node any more.
    NoRight,
    /// Nobody was at this end for too long.
    Idle,
    /// It has lived its time.
    Old,
    /// This process stops.
    Shutdown,
}

impl Ended {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Left => "the client closed it",
            Self::ByNode(reason) => reason,
            Self::Silent => "the node went silent",
            Self::Broken(what) => what,
            Self::NoRight => "the node is not open to you any more",
            Self::Idle => "nobody used it",
            Self::Old => "it has lived its time; open another",
            Self::Shutdown => "the gateway restarts; open another",
        }
    }

    /// Of WebSocket (RFC 6455 and its registry).
    pub(crate) fn close_code(&self) -> u16 {
        match self {
            Self::Left | Self::ByNode(_) => code::NORMAL,
            Self::Silent | Self::Broken(_) => code::TRY_AGAIN,
            Self::NoRight => code::POLICY,
            Self::Idle | Self::Old => code::GOING_AWAY,
            Self::Shutdown => code::SERVICE_RESTART,
        }
    }
}

/// Codes that a WebSocket is closed with.
pub(crate) mod code {
    pub(crate) const NORMAL: u16 = 1000;
    pub(crate) const GOING_AWAY: u16 = 1001;
    pub(crate) const UNSUPPORTED: u16 = 1003;
    pub(crate) const POLICY: u16 = 1008;
    pub(crate) const SERVICE_RESTART: u16 = 1012;
    pub(crate) const TRY_AGAIN: u16 = 1013;
}
