//! Charts as PNG, for those who would rather look than read.

use std::{fmt::Display, path::Path};

use anyhow::anyhow;
use plotters::{
    prelude::*,
    style::{FontStyle, RGBColor, register_font},
};
use proto::insight::v1::{Demand, RepeatCount, ValueCell};

const SIZE: (u32, u32) = (960, 600);
const FONT: &str = "DejaVu Sans";
const INK: RGBColor = RGBColor(31, 60, 110);
/// Lines are told apart by these.
const LINES: [RGBColor; 6] = [
    INK,
    RGBColor(200, 80, 30),
    RGBColor(30, 130, 80),
    RGBColor(150, 60, 150),
    RGBColor(190, 150, 20),
    RGBColor(90, 90, 90),
];

/// Customers by recency upwards and frequency to the right: the darker, the more.
pub fn heat_map(file: &Path, title: &str, cells: &[ValueCell]) -> anyhow::Result<()> {
    draw(file, |root| {
        let mut chart = ChartBuilder::on(&root)
            .caption(title, (FONT, 24))
            .margin(20)
            .x_label_area_size(45)
            .y_label_area_size(55)
            .build_cartesian_2d((1..5).into_segmented(), (1..5).into_segmented())?;
        let score = |segment: &SegmentValue<i32>| match segment {
            SegmentValue::CenterOf(score) => score.to_string(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("frequency score")
            .y_desc("recency score")
            .x_label_formatter(&score)
            .y_label_formatter(&score)
            .label_style((FONT, 16))
            .draw()?;
        let most = cells.iter().map(|cell| cell.customer_count).max().unwrap_or_default().max(1) as f64;
        for cell in cells {
            let (r, f) = (cell.recency_score, cell.frequency_score);
            let share = cell.customer_count as f64 / most;
            let corners = [
                (SegmentValue::Exact(f), SegmentValue::Exact(r)),
                (SegmentValue::Exact(f + 1), SegmentValue::Exact(r + 1)),
            ];
            // The square root, so that small cells are seen beside great ones.
            chart.draw_series([Rectangle::new(corners, INK.mix(share.sqrt()).filled())])?;
            let ink = if share > 0.25 { WHITE } else { BLACK };
            let style = (FONT, 18).into_font().color(&ink);
            let at = (SegmentValue::CenterOf(f), SegmentValue::CenterOf(r));
            chart.draw_series([Text::new(cell.customer_count.to_string(), at, style)])?;
        }
        Ok(())
    })
}

/// How often customers came back, beside how often they would have by the model.
pub fn actual_and_expected(file: &Path, title: &str, counts: &[RepeatCount]) -> anyhow::Result<()> {
    let most =
        counts.iter().map(|count| count.expected_customer_count.max(count.customer_count as f64)).fold(1.0, f64::max);
    let last = counts.iter().map(|count| count.repeat_count).max().unwrap_or_default();
    draw(file, |root| {
        let mut chart = ChartBuilder::on(&root)
            .caption(title, (FONT, 24))
            .margin(20)
            .x_label_area_size(45)
            .y_label_area_size(80)
            .build_cartesian_2d(-0.5..f64::from(last) + 0.5, 0.0..most * 1.05)?;
        let times = |at: &f64| match at.round() as i32 {
            at if at == last => format!("{at}+"),
            at => at.to_string(),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .y_label_formatter(&|customers| format!("{customers:.0}"))
            .x_desc("came back on so many days")
            .y_desc("customers")
            .x_labels(counts.len())
            .x_label_formatter(&times)
            .label_style((FONT, 16))
            .draw()?;
        let bar = |at: i32, left: f64, height: f64, color: RGBColor| {
            let at = f64::from(at) + left;
            Rectangle::new([(at, 0.0), (at + 0.4, height)], color.filled())
        };
        let legend = |color: RGBColor| move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled());
        chart
            .draw_series(counts.iter().map(|count| bar(count.repeat_count, -0.4, count.customer_count as f64, INK)))?
            .label("actual")
            .legend(legend(INK));
        chart
            .draw_series(
                counts.iter().map(|count| bar(count.repeat_count, 0.0, count.expected_customer_count, LINES[1])),
            )?
            .label("expected")
            .legend(legend(LINES[1]));
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).label_font((FONT, 16)).draw()?;
        Ok(())
    })
}

/// The first few demands, month by month.
pub fn trend(file: &Path, title: &str, months: &[String], demands: &[(String, &Demand)]) -> anyhow::Result<()> {
    let all = || demands.iter().flat_map(|(_, demand)| &demand.months);
    let most = all().map(|month| month.net_minor).max().unwrap_or_default().max(1);
    draw(file, |root| {
        let mut chart = ChartBuilder::on(&root)
            .caption(title, (FONT, 24))
            .margin(20)
            .x_label_area_size(45)
            .y_label_area_size(110)
            .build_cartesian_2d(0..months.len().max(2) - 1, 0..most + most / 20)?;
        chart
            .configure_mesh()
            .y_desc("minor units")
            .max_light_lines(0)
            .x_labels(months.len().min(8))
            .x_label_formatter(&|at| months.get(*at).cloned().unwrap_or_default())
            .label_style((FONT, 14))
            .draw()?;
        for ((name, demand), color) in demands.iter().zip(LINES) {
            let at = |month: &str| months.iter().position(|other| other == month);
            let points = demand.months.iter().filter_map(|month| Some((at(&month.month)?, month.net_minor)));
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .label_font((FONT, 14))
            .draw()?;
        Ok(())
    })
}

type Root<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

/// Draws on white and writes the file.
fn draw<'a>(
    file: &'a Path,
    paint: impl FnOnce(Root<'a>) -> Result<(), DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>>,
) -> anyhow::Result<()> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| anyhow!("the font cannot be read"))?;
    let failed = |error: &dyn Display| anyhow!("{} cannot be drawn: {error}", file.display());
    let root = BitMapBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    paint(root.clone()).map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))?;
    println!("drawn into {}", file.display());
    Ok(())
}
