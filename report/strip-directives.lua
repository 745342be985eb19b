-- Notebooks speak to nbdev in leading comments such as "#| export". Readers need not see them.
-- Takes those lines off every code block, drops blocks left empty, and removes the fences that are left
-- standing as text where a directive was taken for a cell option.

local function strip(text)
  local lines, leading = {}, true
  for line in (text .. "\n"):gmatch("(.-)\n") do
    if leading and (line:match("^%s*#%s*|") or line:match("^%s*$")) then
      -- a directive or a blank line before the first line of code
    else
      leading = false
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n")
end

local function is_broken_fence(block)
  if block.t ~= "Para" and block.t ~= "Plain" then return false end
  local words = pandoc.utils.stringify(block)
  return words == ":::" or (words:match("^::: ?{") ~= nil and words:find(".cell", 1, true) ~= nil)
end

return {
  {
    CodeBlock = function(block)
      if not block.classes:includes("cell-code") then return nil end
      block.text = strip(block.text)
      if block.text == "" then return {} end
      return block
    end,
  },
  {
    Blocks = function(blocks)
      return blocks:filter(function(block) return not is_broken_fence(block) end)
    end,
  },
}
