"""The consumer's module: the template for its own service, and as much like it for any other."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Script = Callable[..., Any]
HEAD = """
from sqlalchemy.ext.asyncio import AsyncSession
"""
SERVICE = """

class MadeService:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def run(self{parameters}) -> None:
        ...
"""


@pytest.fixture
def made(shop: Path, service: Callable[[str], Path], add_consumer: Script) -> Callable[..., str]:
    """Adds a consumer that calls a method with these parameters; the consumer's text."""

    def make(parameters: str, imports: str = "", calls: str = "app.services.made:MadeService.run") -> str:
        service(imports + HEAD + SERVICE.format(parameters=f", {parameters}" if parameters else ""))
        added = add_consumer(shop, name="made_thing", calls=calls)
        assert added.code == 0, added.err
        text = (shop / "app" / "consumers" / "made_thing.py").read_text()
        ast.parse(text)
        return text

    return make


def test_consumer_of_the_templates_own_service_is_the_template(shop: Path, add_consumer: Script) -> None:
    add_consumer(shop)

    template = ROOT / "templates" / "app" / "consumers" / "order_paid.py"
    assert (shop / "app" / "consumers" / "order_paid.py").read_bytes() == template.read_bytes()


def test_rabbitmq_consumer_is_the_same_but_for_what_runs_it(shop: Path, add_consumer: Script) -> None:
    assert add_consumer(shop, broker="rabbitmq").code == 0

    template = (ROOT / "templates" / "app" / "consumers" / "order_paid.py").read_text()
    renamed = template.replace("app.core.stream_consumer", "app.core.rabbit_consumer")
    expected = renamed.replace("StreamConsumer", "RabbitConsumer")
    assert (shop / "app" / "consumers" / "order_paid.py").read_text() == expected
    assert expected.count("RabbitConsumer") == 3


def test_consumer_of_the_example_is_what_the_script_writes(shop: Path, add_consumer: Script) -> None:
    calls = "app.services.emails:EmailService.send"
    assert add_consumer(shop, broker="rabbitmq", name="order_placed", calls=calls).code == 0

    template = ROOT / "templates" / "app" / "consumers" / "order_placed.py"
    assert (shop / "app" / "consumers" / "order_placed.py").read_bytes() == template.read_bytes()


def test_parameters_become_fields_with_their_types_and_defaults(made: Callable[..., str]) -> None:
    text = made(
        "number: int, when: datetime, *, price: Decimal = Decimal('1.5'), note: str | None = None",
        imports="from datetime import datetime\nfrom decimal import Decimal\n",
    )

    assert "    number: int\n    when: datetime\n" in text
    assert "    price: Decimal = Decimal('1.5')\n    note: str | None = None\n" in text
    assert "from datetime import datetime\nfrom decimal import Decimal\n\nfrom pydantic" in text
    assert "        price=message.data.price,\n" in text


def test_types_of_the_project_are_imported(shop: Path, add_consumer: Script) -> None:
    added = add_consumer(shop, name="order_wanted", calls="app.services.orders:OrderService.place")

    assert added.code == 0, added.err
    text = (shop / "app" / "consumers" / "order_wanted.py").read_text()
    assert "from app.schemas.orders import OrderItemIn\n" in text
    assert "    items: list[OrderItemIn]\n" in text


def test_types_of_the_services_own_module_come_from_there(made: Callable[..., str]) -> None:
    text = made(
        "level: Level", imports="from enum import StrEnum\n\n\nclass Level(StrEnum):\n    LOW = 'low'\n"
    )

    assert "from app.services.made import Level, MadeService\n" in text


def test_quoted_types_module_imports_and_aliases_are_understood(made: Callable[..., str]) -> None:
    text = made(
        "day: 'dt.date', key: uuid.UUID, kind: Literal['a', 'b'] = 'a'",
        imports="import datetime as dt\nimport uuid\nfrom typing import Literal\n",
    )

    assert "import datetime as dt\nimport uuid\nfrom typing import Literal\n" in text
    assert "    day: dt.date\n    key: uuid.UUID\n    kind: Literal['a', 'b'] = 'a'\n" in text


def test_texts_that_are_no_types_stay_texts(made: Callable[..., str]) -> None:
    text = made(
        "count: Annotated['int', Field(ge=1, description='how many')], size: Annotated[int, 'in bytes']",
        imports="from typing import Annotated\n\nfrom pydantic import Field\n",
    )

    assert "    count: Annotated[int, Field(ge=1, description='how many')]\n" in text
    assert "    size: Annotated[int, 'in bytes']\n" in text
    assert "from pydantic import BaseModel, Field\n" in text


def test_relative_imports_become_absolute(made: Callable[..., str]) -> None:
    text = made("items: list[OrderItemIn]", imports="from ..schemas.orders import OrderItemIn\n")

    assert "from app.schemas.orders import OrderItemIn\n" in text


def test_idempotency_key_is_passed_and_no_field(shop: Path, add_consumer: Script) -> None:
    added = add_consumer(shop, name="send_email", calls="app.services.emails:EmailService.send")

    text = (shop / "app" / "consumers" / "send_email.py").read_text()
    assert "        idempotency_key=message.idempotency_key,\n" in text
    assert "    idempotency_key:" not in text
    assert "EmailService.send is passed the message's idempotency_key" in added.err


def test_method_without_parameters_has_an_empty_payload(made: Callable[..., str]) -> None:
    text = made("")

    assert "    await MadeService(session).run()\n" in text
    assert '    """Payload of `shop.made.thing.v1`."""\n\n\nasync def' in text


def test_positional_only_parameters_are_passed_by_position(made: Callable[..., str]) -> None:
    text = made("number: int, /, note: str")

    assert "        message.data.number,\n        note=message.data.note,\n" in text


def test_plain_function_gets_the_session_first(
    shop: Path, service: Callable[[str], Path], add_consumer: Script
) -> None:
    service(f"{HEAD}\n\nasync def touch(session: AsyncSession, number: int) -> None:\n    ...\n")

    added = add_consumer(shop, name="touched", calls="app.services.made:touch")

    assert added.code == 0, added.err
    text = (shop / "app" / "consumers" / "touched.py").read_text()
    assert "from app.services.made import touch\n" in text
    assert "    await touch(\n        session,\n        number=message.data.number,\n    )\n" in text


def test_inherited_constructor_and_method_are_found(
    shop: Path, service: Callable[[str], Path], add_consumer: Script
) -> None:
    (shop / "app" / "services" / "base.py").write_text(
        f"{HEAD}{SERVICE.format(parameters=', number: int')}".replace("MadeService", "Base")
    )
    service("from app.services.base import Base\n\n\nclass MadeService(Base):\n    pass\n")

    added = add_consumer(shop, name="inherited", calls="app.services.made:MadeService.run")

    assert added.code == 0, added.err
    assert "number=message.data.number" in (shop / "app" / "consumers" / "inherited.py").read_text()


def test_payload_whose_name_is_taken_gets_another(shop: Path, add_consumer: Script) -> None:
    add_consumer(shop, name="order_service")

    text = (shop / "app" / "consumers" / "order_service.py").read_text()
    assert "class OrderServicePayload(BaseModel):" in text
    assert "Message[OrderServicePayload]" in text


def test_type_is_used_for_stream_and_payload(shop: Path, add_consumer: Script) -> None:
    add_consumer(shop, "--type", "billing.order-paid.v3")

    text = (shop / "app" / "consumers" / "order_paid.py").read_text()
    assert 'topic="billing.order-paid"' in text
    assert 'on("billing.order-paid.v3", OrderPaid, handle)' in text
    assert "shop." not in text


def test_long_imports_are_wrapped(made: Callable[..., str]) -> None:
    names = [f"SomeRatherLongNameOfAType{number}" for number in range(5)]
    classes = "".join(f"class {name}(str): ...\n" for name in names)
    text = made(", ".join(f"a{number}: {name}" for number, name in enumerate(names)), imports=classes)

    assert "from app.services.made import (\n    MadeService,\n    SomeRatherLongNameOfAType0,\n" in text
