"""NATS JetStream: one stream of events, of which the last message on a subject is remembered for us."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError
from nats.js.errors import Error as Answered
from opentelemetry.trace import SpanKind

from activities import spans
from activities.clients.buslogin import BusClient, BusSettings, login_of
from activities.core.credentials import is_tls_trouble, tls_advice
from activities.core.faults import BusRefused, BusUnavailable, Fault

WRONG_LAST_SEQUENCE = 10071
STREAM_NAME_IN_USE = 10058
NO_STREAM = 10059
DUPLICATE_WINDOW_SECONDS = 2 * 60
ANSWER_SECONDS = 10
HEARD_WITHIN_SECONDS = 60
"""A message that somebody follows comes again when nobody has heard it so long after it came."""
HEARD_AT_ONCE = 100
FOREIGN_SECONDS = 5


@dataclass(frozen=True)
class LastMessage:
    """The newest message on a subject."""

    sequence: int
    body: bytes


@dataclass(frozen=True)
class HeardMessage:
    """A message that somebody listens for."""

    subject: str
    body: bytes
    traceparent: str
    """The trace that it was sent in; empty when its headers name none."""


class Bus:
    """A connection that is made when needed and made again when lost."""

    def __init__(self, settings: BusSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._opening = asyncio.Lock()
        self._said: Exception | None = None
        """What the library last told of, whose exceptions say less."""
        self._away: BusUnavailable | None = None
        """What NATS failed with that has not answered since."""
        self._looking = False
        """Whether somebody is finding out if it is back."""

    async def close(self) -> None:
        """Flush and leave."""
        if self._client is not None:
            await self._client.close()
            self._client = self._jetstream = None

    @property
    def where(self) -> str:
        """What messages call the server."""
        return f"NATS {self._settings.url}"

    async def check(self) -> None:
        """See that NATS answers and has the stream, which is made if it is not there.

        Raises:
            BusUnavailable: it cannot be reached.
            BusRefused: it refuses the login or the stream.
        """
        async with self._named():
            await self._open()

    @contextlib.asynccontextmanager
    async def _asked(self) -> AsyncIterator[JetStreamContext]:
        """JetStream, to be asked something. Who comes while NATS is known to be away hears so at once.

        Only one of them finds out whether it is back: each would hold a slot of its worker until its time is up, and
        with hundreds of tables commits would wait for these slots.
        """
        looks = self._away is not None
        if self._away is not None and self._looking:
            raise BusUnavailable(str(self._away))
        self._looking = self._looking or looks
        try:
            async with self._named():
                yield await self._open(looks=looks)
                self._away = None
        finally:
            if looks:
                self._looking = False

    async def _open(self, *, looks: bool = True) -> JetStreamContext:
        # Announcements of several tables share this connection: one of them makes it, the others wait.
        async with self._opening:
            if self._away is not None and not looks:  # as the one before has just found out
                raise BusUnavailable(str(self._away))
            return await self._connected()

    async def _connected(self) -> JetStreamContext:
        if self._client is not None and self._client.is_connected and self._jetstream is not None:
            return self._jetstream
        await self.close()
        self._said = None
        client = BusClient()
        await client.reach(
            self._settings.url,
            connect_timeout=5,
            allow_reconnect=False,
            # Connecting for the first time goes by these alone, and takes two minutes by default.
            max_reconnect_attempts=1,
            reconnect_time_wait=0.2,
            error_cb=self._heard,
            inbox_prefix=self._settings.inbox,
            **login_of(self._settings),
        )
        self._client = client
        jetstream = self._client.jetstream(timeout=ANSWER_SECONDS)
        await self._ensure(jetstream)
        self._jetstream = jetstream
        return jetstream

    async def _ensure(self, jetstream: JetStreamContext) -> None:
        config = StreamConfig(
            name=self._settings.stream,
            subjects=list(self._settings.subjects),
            num_replicas=self._settings.replicas,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
            allow_direct=True,
            description="What icefleet committed and found",
        )
        try:
            await jetstream.stream_info(self._settings.stream)
        except NotFoundError:
            try:
                await jetstream.add_stream(config)
            except APIError as refused:
                if refused.err_code != STREAM_NAME_IN_USE:
                    raise

    async def last(self, subject: str) -> LastMessage | None:
        """The newest message on `subject`; None when there is none."""
        async with self._asked() as jetstream:
            try:
                message = await jetstream.get_last_msg(self._settings.stream, subject)
            except NotFoundError as absent:
                if absent.err_code == NO_STREAM:
                    self._jetstream = None  # somebody deleted the stream: the next call makes it anew
                return None
        return LastMessage(int(message.seq or 0), message.data or b"")

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        message_id: str,
        after: int,
        traceparent: str = "",
    ) -> int:
        """Publish if the subject's newest message is still the one numbered `after` (0: none); answers its number.

        It is told on in the trace of `traceparent`; empty: in the current one.

        Raises:
            BusUnavailable: NATS is away, or another announcer was faster: look at the stream again.
            BusRefused: the message is larger than NATS takes.
        """
        only_if = {"Nats-Msg-Id": message_id, "Nats-Expected-Last-Subject-Sequence": str(after)}
        async with self._asked() as jetstream:
            try:
                with spans.message(SpanKind.PRODUCER, subject, traceparent):
                    every = {**headers, **spans.headers(), **only_if}
                    acknowledged = await jetstream.publish(subject, body, headers=every)
            except APIError as refused:
                if refused.err_code == WRONG_LAST_SEQUENCE:
                    raise BusUnavailable(f"another announcer published on {subject} meanwhile") from refused
                raise
            except nats.errors.MaxPayloadError as large:
                raise BusRefused(
                    f"NATS {self._settings.url} takes no message of {len(body)} bytes; raise its max_payload"
                ) from large
            except NoStreamResponseError:
                await self._widen(jetstream, subject)
                self._jetstream = None
                raise
        if acknowledged.duplicate:
            # It was published once, by whom and whether the stream still holds it is for the stream to say.
            raise BusUnavailable(f"{subject}: {message_id} was published a short while ago; look at the stream again")
        return int(acknowledged.seq)

    async def _widen(self, jetstream: JetStreamContext, subject: str) -> None:
        """Let a stream that was made before there were such subjects take all of ours.

        Raises:
            BusRefused: the stream may not be changed.
        """
        try:
            config = (await jetstream.stream_info(self._settings.stream)).config
        except NotFoundError:
            return  # it is made anew with the next connection
        theirs = [own for own in config.subjects or [] if own not in self._settings.subjects]
        wanted = [*theirs, *(own for own in self._settings.subjects if not any(_covers(one, own) for one in theirs))]
        try:
            await jetstream.update_stream(replace(config, subjects=wanted))
        except APIError as refused:
            raise BusRefused(
                f"NATS {self._settings.url}: the stream {self._settings.stream} does not take {subject}, and may not "
                f"be changed ({refused.description}); let it take {', '.join(self._settings.subjects)}"
            ) from refused

    async def latest(self, subject: str) -> AsyncGenerator[tuple[str, LastMessage]]:
        """The newest message on every subject that `subject` (with wildcards) stands for, with its own subject."""
        async with self._named():
            jetstream = await self._open()
            subscription = await jetstream.subscribe(
                subject,
                stream=self._settings.stream,
                ordered_consumer=True,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            )
            try:
                consumer = await subscription.consumer_info()
                delivered = consumer.delivered.consumer_seq if consumer.delivered is not None else 0
                left = (consumer.num_pending or 0) + delivered
                while left:
                    message = await subscription.next_msg(timeout=ANSWER_SECONDS)
                    seen = message.metadata
                    yield message.subject, LastMessage(seen.sequence.stream, message.data)
                    left = seen.num_pending
            finally:
                await subscription.unsubscribe()

    async def events(self, *subjects: str, from_start: bool) -> AsyncGenerator[HeardMessage]:
        """The messages on `subjects` (wildcards allowed), in order, as they come; it never ends by itself."""
        async with self._named():
            jetstream = await self._open()
            policy = DeliverPolicy.ALL if from_start else DeliverPolicy.NEW
            subscription = await jetstream.subscribe(
                subjects[0],
                stream=self._settings.stream,
                config=ConsumerConfig(filter_subjects=list(subjects)),
                ordered_consumer=True,
                deliver_policy=policy,
            )
            try:
                async for message in subscription.messages:
                    yield HeardMessage(message.subject, message.data, _traceparent(message))
            finally:
                await subscription.unsubscribe()

    async def follow(self, durable: str, subjects: Sequence[str]) -> AsyncGenerator[dict[str, str]]:
        """On which of `subjects` messages have come, also while nobody followed; it never ends by itself.

        With each the `traceparent` of its newest message.

        They count as heard once the next ones are asked for, and come again otherwise. Where each follower of that
        name is, is kept by NATS; several of them share what comes. At first only each subject's newest message comes.
        """
        async with self._named():
            jetstream = await self._open()
            await self._ensure(jetstream)
            config = ConsumerConfig(
                durable_name=durable,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subjects=sorted(subjects),
                ack_wait=HEARD_WITHIN_SECONDS,
                max_deliver=-1,
            )
            await jetstream.add_consumer(self._settings.stream, config)
            subscription = await jetstream.pull_subscribe_bind(durable, self._settings.stream)
            try:
                while True:
                    messages = await self._come(subscription)
                    for foreign in (one for one in messages if one.subject not in subjects):
                        # A follower that was told of other subjects has widened the filter, and knows what to do.
                        await foreign.nak(delay=FOREIGN_SECONDS)
                    known = [one for one in messages if one.subject in subjects]
                    if known:
                        yield {one.subject: _traceparent(one) for one in known}
                        for one in known:
                            await one.ack()
            finally:
                if self._client is not None and self._client.is_connected:
                    await subscription.unsubscribe()

    async def _come(self, subscription: Any) -> list[Msg]:
        """What has come; nothing if nothing did for a while."""
        try:
            messages: list[Msg] = await subscription.fetch(1, timeout=ANSWER_SECONDS)
        except TimeoutError:
            if self._client is None or not self._client.is_connected:
                raise
            return []
        with contextlib.suppress(TimeoutError):  # others were on their way and have not come: they come with the next
            # One that is alone is not kept waiting for others.
            while messages[-1].metadata.num_pending and len(messages) < HEARD_AT_ONCE:
                messages += await subscription.fetch(HEARD_AT_ONCE, timeout=1)
        return messages

    @contextlib.asynccontextmanager
    async def _named(self) -> AsyncIterator[None]:
        try:
            yield
        except (nats.errors.Error, OSError, TimeoutError) as away:
            raise self._fault(away) from away

    def _fault(self, away: Exception) -> Fault:
        where, cause = f"{self.where}, stream {self._settings.stream}", away
        if isinstance(away, nats.errors.NoServersError) and self._said is not None:
            cause = self._said
        said = str(cause) or repr(cause)
        if is_tls_trouble(cause):
            return BusRefused(f"{where}: no connection by TLS: {said}; {tls_advice('nats')}")
        fault = BusUnavailable(f"{where}: {said}")
        self._away = None if isinstance(away, Answered) else fault
        return fault

    async def _heard(self, said: Exception) -> None:
        """Connection errors reach the caller as exceptions; the library would also log each of them."""
        self._said = said


def _traceparent(message: Msg) -> str:
    return str((message.headers or {}).get("traceparent", ""))


def _covers(pattern: str, subject: str) -> bool:
    """Whether everything that `subject` stands for is taken by `pattern`; both may hold wildcards."""
    patterns, words = pattern.split("."), subject.split(".")
    for number, one in enumerate(patterns):
        if one == ">":
            return len(words) > number
        if number >= len(words) or words[number] == ">" or one not in {"*", words[number]}:
            return False
    return len(patterns) == len(words)
