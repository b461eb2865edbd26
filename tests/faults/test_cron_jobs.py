"""The jobs of the templates, run by a scheduler: the nightly report, the expiry of orders, the beat."""

import json
from datetime import date

from support.cron_scene import CronScene
from support.wait import eventually


async def run(cron: CronScene, job: str, due: str) -> None:
    """Have a tick of a job run, and wait for it."""
    code, data, remarks = await cron.command("run-now", job, "--due", due, "--format", "json")
    assert code == 0, remarks

    async def done() -> bool:
        rows = await cron.sql("SELECT state FROM cron_run WHERE id = $1", data["id"])
        return bool(rows[0]["state"] == "succeeded")

    await eventually(done, 30, f"{job} {due}")


async def test_sales_report(cron: CronScene) -> None:
    # Given orders of one day in Berlin, paid in the last minute before midnight and in the first after it
    cron.settings["TIME_ZONE"] = "Europe/Berlin"
    first, second = await cron.orders(2)
    paid = "UPDATE customer_order SET status = 'paid', paid_at = $2::text::timestamptz WHERE id = $1"
    for order, at in ((first, "2026-03-28T23:59:00+01:00"), (second, "2026-03-29T00:00:00+01:00")):
        await cron.sql(paid, order, at)
    cron.scheduler()
    # When the report of the night is made in which 02:30 does not exist
    await run(cron, "sales_report", "2026-03-29T03:00:00+02:00")
    # Then it is that of the day before
    (report,) = await cron.sql("SELECT day, orders_paid FROM sales_report")
    assert (report["day"], report["orders_paid"]) == (date(2026, 3, 28), 1)


async def test_expire_orders(cron: CronScene) -> None:
    old, young = await cron.orders(2)
    await cron.sql("UPDATE customer_order SET created_at = now() - interval '25 h' WHERE id = $1", old)
    cron.scheduler()
    (row,) = await cron.sql("SELECT now() AS now")
    await run(cron, "expire_orders", row["now"].isoformat())
    rows = await cron.sql("SELECT id, status FROM customer_order")
    assert {row["id"]: row["status"] for row in rows} == {old: "cancelled", young: "placed"}


async def test_report_request(cron: CronScene) -> None:
    cron.scheduler()
    await run(cron, "report_request", "2026-03-29T03:00:00+00:00")
    (row,) = await cron.sql("SELECT topic, body FROM outbox_message")
    assert row["topic"] == "shop.report.requested"
    assert json.loads(row["body"])["data"] == {"due_at": "2026-03-29T03:00:00Z"}
