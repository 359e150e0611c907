//! The heart: a customer's totals. They are changed by differences, order by order, and equal what
//! a recount over all orders gives.

use chrono::{DateTime, Utc};
use proto::order_history::v1::{Order, OrderState, OrderSummary};
use store::timestamp;

/// The totals of one customer in one currency, over orders that are not cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub currency: String,
    pub order_count: i64,
    pub gross_minor: i64,
    pub refunded_minor: i64,
    pub first_placed_at: DateTime<Utc>,
    pub last_placed_at: DateTime<Utc>,
}

impl Summary {
    /// What one new order adds; a cancelled one adds nothing.
    pub fn of(order: &Order, placed_at: DateTime<Utc>) -> Option<Self> {
        (order.state() != OrderState::Cancelled).then(|| Self {
            currency: order.currency_code.clone(),
            order_count: 1,
            gross_minor: order.total_minor,
            refunded_minor: 0,
            first_placed_at: placed_at,
            last_placed_at: placed_at,
        })
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.order_count += other.order_count;
        self.gross_minor += other.gross_minor;
        self.refunded_minor += other.refunded_minor;
        self.first_placed_at = self.first_placed_at.min(other.first_placed_at);
        self.last_placed_at = self.last_placed_at.max(other.last_placed_at);
    }

    /// As it is shown.
    pub fn into_proto(self) -> OrderSummary {
        let gaps = (self.order_count - 1).max(1);
        OrderSummary {
            order_count: self.order_count,
            gross_minor: self.gross_minor,
            refunded_minor: self.refunded_minor,
            net_minor: self.gross_minor - self.refunded_minor,
            average_minor: rounded(self.gross_minor, self.order_count),
            first_placed_time: Some(timestamp(self.first_placed_at)),
            last_placed_time: Some(timestamp(self.last_placed_at)),
            mean_gap_seconds: (self.last_placed_at - self.first_placed_at).num_seconds() / gaps,
            currency_code: self.currency,
        }
    }
}

/// Division rounded half away from zero. Amounts and counts are not negative.
fn rounded(amount: i64, count: i64) -> i64 {
    let (amount, count) = (i128::from(amount), i128::from(count.max(1)));
    ((2 * amount + count) / (2 * count)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(total: i64, day: u32) -> Summary {
        let placed_at = DateTime::from_timestamp(i64::from(day) * 86_400, 0).unwrap();
        let order = Order { currency_code: "EUR".into(), total_minor: total, ..Default::default() };
        Summary::of(&order, placed_at).unwrap()
    }

    #[test]
    fn totals_do_not_depend_on_the_order_of_arrival() {
        let orders = [one(1000, 3), one(250, 1), one(333, 9)];
        let mut expected = None;
        for permutation in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut sum = orders[permutation[0]].clone();
            sum.add(&orders[permutation[1]]);
            sum.add(&orders[permutation[2]]);
            assert_eq!(*expected.get_or_insert(sum.clone()), sum);
        }
        let shown = expected.unwrap().into_proto();
        assert_eq!((shown.order_count, shown.gross_minor, shown.average_minor), (3, 1583, 528));
        assert_eq!(shown.mean_gap_seconds, 4 * 86_400);
    }

    #[test]
    fn an_average_rounds_half_away_from_zero() {
        for (amount, count, expected) in [(0, 1, 0), (1, 2, 1), (1, 3, 0), (5, 2, 3), (7, 3, 2), (8, 3, 3)] {
            assert_eq!(rounded(amount, count), expected, "{amount}/{count}");
        }
    }

    #[test]
    fn a_cancelled_order_adds_nothing() {
        let order = Order { state: OrderState::Cancelled as i32, total_minor: 5, ..Default::default() };
        assert_eq!(Summary::of(&order, DateTime::UNIX_EPOCH), None);
    }
}
