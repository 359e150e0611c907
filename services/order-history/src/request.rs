//! What the contract's rules cannot say: whether an order adds up.

use std::collections::HashSet;

use error::Violations;
use iso_currency::Currency;
use proto::{
    order_history::v1::{Order, OrderLine, RecordOrderRequest, RecordReturnRequest},
    section::v1::ResolveIdentifiersRequest,
};
use store::check_time;

pub fn record(request: &RecordOrderRequest, violations: &mut Violations) {
    let Some(order) = &request.order else { return };
    let mut found = Violations::default();
    self::order(order, &mut found);
    violations.0.extend(found.0.into_iter().map(|mut violation| {
        violation.field.insert_str(0, "order.");
        violation
    }));
}

pub fn order(order: &Order, violations: &mut Violations) {
    check_time("placed_time", order.placed_time.as_ref(), violations);
    if Currency::from_code(&order.currency_code).is_none() {
        violations.add("currency_code", "is not a currency of ISO 4217");
    }
    let mut numbers = HashSet::new();
    for (i, line) in order.lines.iter().enumerate() {
        if !numbers.insert(line.line_number) {
            violations.add(format!("lines[{i}].line_number"), "is given twice");
        }
        if line.unit_price_minor.is_some() && expected(line) != i128::from(line.amount_minor) {
            violations.add(format!("lines[{i}].amount_minor"), "is not unit price × quantity − discount + tax");
        }
    }
    let lines: i128 = order.lines.iter().map(|line| i128::from(line.amount_minor)).sum();
    let total =
        lines - i128::from(order.discount_minor) + i128::from(order.shipping_minor) + i128::from(order.tax_minor);
    if total != i128::from(order.total_minor) {
        violations.add("total_minor", "is not the lines' amounts − discount + shipping + tax");
    }
}

fn expected(line: &OrderLine) -> i128 {
    let price = i128::from(line.unit_price_minor.unwrap_or_default());
    price * i128::from(line.quantity) - i128::from(line.discount_minor) + i128::from(line.tax_minor)
}

pub fn record_return(request: &RecordReturnRequest, violations: &mut Violations) {
    let Some(back) = &request.r#return else { return };
    check_time("return.returned_time", back.returned_time.as_ref(), violations);
    if back.lines.is_empty() && back.refund_minor == 0 {
        violations.add("return", "must bring back goods or money");
    }
    let mut numbers = HashSet::new();
    for (i, line) in back.lines.iter().enumerate() {
        if !numbers.insert(line.line_number) {
            violations.add(format!("return.lines[{i}].line_number"), "is given twice");
        }
    }
}

pub fn resolve(request: &ResolveIdentifiersRequest, violations: &mut Violations) {
    for (i, identifier) in request.identifiers.iter().enumerate() {
        if identifier.order_number.is_none() {
            violations.add(format!("identifiers[{i}]"), "is of a kind that order-history does not know");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Order {
        let line = OrderLine {
            line_number: 1,
            quantity: 3,
            unit_price_minor: Some(500),
            discount_minor: 100,
            tax_minor: 20,
            amount_minor: 1420,
            ..Default::default()
        };
        Order {
            currency_code: "EUR".into(),
            lines: vec![line],
            shipping_minor: 300,
            total_minor: 1720,
            ..Default::default()
        }
    }

    fn fields(broken: &Order) -> Vec<String> {
        let mut violations = Violations::default();
        order(broken, &mut violations);
        violations.0.into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn an_order_that_does_not_add_up_is_named_field_by_field() {
        assert!(fields(&valid()).is_empty());
        let mut broken = valid();
        broken.lines[0].amount_minor += 1;
        broken.lines.push(broken.lines[0].clone());
        broken.currency_code = "EUX".into();
        assert_eq!(
            fields(&broken),
            ["currency_code", "lines[0].amount_minor", "lines[1].line_number", "lines[1].amount_minor", "total_minor"]
        );
    }

    #[test]
    fn amounts_at_their_limits_do_not_overflow() {
        let mut order = valid();
        order.lines[0].unit_price_minor = Some(i64::MAX);
        order.lines[0].quantity = i64::MAX;
        assert_eq!(fields(&order), ["lines[0].amount_minor"]);
    }
}
