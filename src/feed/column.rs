//! The columns that a feed may have.

/// All columns, for hints.
pub(super) const COLUMNS: &str = "order_id, connect_user_id, completed_at, retailer_id, ids_internal, priority";

/// The columns of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    OrderId,
    ConnectUserId,
    CompletedAt,
    RetailerId,
    IdsInternal,
    Priority,
}

/// One value per [`Column`], as text; `None` if the row has none.
pub(super) type Cells = [Option<String>; 6];

impl Column {
    /// Finds a column by its name, in any case and with any separator between words: `orderId`, `Order ID`,
    /// `order.id`.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        if name.len() > 64 || name.contains('\'') {
            return None;
        }
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        match name.as_str() {
            "orderid" => Some(Self::OrderId),
            "connectuserid" => Some(Self::ConnectUserId),
            "completedat" => Some(Self::CompletedAt),
            "retailerid" => Some(Self::RetailerId),
            "idsinternal" => Some(Self::IdsInternal),
            "priority" => Some(Self::Priority),
            _ => None,
        }
    }
}
