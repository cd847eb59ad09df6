//! A stub.
use omni_channel_sdk::prelude::*;
/// Echo.
#[derive(Debug)]
pub struct Echo;
/// Its configuration.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// Address.
    pub listen: Option<String>,
}
impl Channel for Echo {
    type Config = Config;
    async fn start(_ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        Ok(Started::new(Self, Webhook { listen: config.listen, ..Webhook::default() }))
    }
    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        let _ = ctx.get("x").await?;
        Ok(SendReceipt::new(send.client_id.as_str()))
    }
}
export_channel!(Echo, "../channel.json");
