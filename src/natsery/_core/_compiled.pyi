# The plain form documents both, and has the same types.
from ._endpoint_queue import EndpointQueue as EndpointQueue
from ._fields import CounterFields as CounterFields
from ._fields import HeldAnswers as HeldAnswers
from ._fields import MessageFields as MessageFields
from ._fields import RequestFields as RequestFields
from ._fields import SubscriptionFields as SubscriptionFields
from ._fields import Worker as Worker
from ._frame_buffer import FrameBuffer as FrameBuffer
from ._reader import Reader as Reader
