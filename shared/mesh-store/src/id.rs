//! Ids as Postgres stores them: the same 16 bytes in the same order, as `uuid`.

use mesh_types::Id;
use uuid::Uuid;

/// Every [`Id`] to and from the column type; sorts the same on both sides.
pub trait IdExt: Id {
    fn to_uuid(self) -> Uuid {
        Uuid::from_u128(self.as_u128())
    }

    fn from_uuid(uuid: Uuid) -> Self {
        Self::from_u128(uuid.as_u128())
    }
}

impl<T: Id> IdExt for T {}

#[cfg(test)]
mod tests {
    use mesh_types::{InvocationId, Timestamp};

    use super::*;

    #[test]
    fn an_id_survives_the_column_and_sorts_the_same() {
        let early = InvocationId::new(Timestamp::from_millis(1), u128::MAX);
        let late = InvocationId::new(Timestamp::from_millis(2), 0);
        assert_eq!(InvocationId::from_uuid(early.to_uuid()), early);
        assert!(early.to_uuid() < late.to_uuid());
    }
}
